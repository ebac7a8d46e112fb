import { EVERY_TEAM, type OneTeam, type TeamScope } from '../store/team-scope.ts';
import type { ServiceContext } from './service-context.ts';

/** With whose sandboxes the work has to do. Whatever looks a sandbox up for somebody asks for this. */
export interface ScopedContext extends ServiceContext {
  readonly scope: TeamScope;
}

/** For what one team asked for: what belongs to another is not there. */
export interface TeamContext extends ServiceContext {
  readonly scope: OneTeam;
}

export function forTeam(context: ServiceContext, teamId: string): TeamContext {
  return { ...context, scope: { teamId } };
}

/** For what the server does by itself, and for the edge, which lets in by a sandbox's own tokens. */
export function forEveryTeam(context: ServiceContext): ScopedContext {
  return { ...context, scope: EVERY_TEAM };
}
