import type { ExpressionBuilder, ExpressionWrapper, SqlBool } from 'kysely';
import type { Database } from './schema.ts';

/** Only what belongs to one team. */
export interface OneTeam {
  readonly teamId: string;
}

/** For what the server does by itself, whoever the sandbox belongs to. Never for what somebody asked for. */
export const EVERY_TEAM = 'every team';

/** Whose rows a query sees. To what it does not see it says that it is not there. */
export type TeamScope = OneTeam | typeof EVERY_TEAM;

/** The condition for `where`. */
export function inScope(scope: TeamScope) {
  return (eb: ExpressionBuilder<Database, 'sandboxes'>): ExpressionWrapper<Database, 'sandboxes', SqlBool> =>
    scope === EVERY_TEAM ? eb.and([]) : eb('sandboxes.team_id', '=', scope.teamId);
}
