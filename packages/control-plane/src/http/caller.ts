import { NestboxError } from '@nestbox/contract';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { teamNotFound } from '../service/manage-teams.ts';
import type { ServiceContext } from '../service/service-context.ts';
import { forEveryTeam, forTeam, type ScopedContext, type TeamContext } from '../service/team-context.ts';

/** Who sent a request. */
export type Caller =
  | {
      readonly kind: 'key';
      readonly keyId: string;
      readonly name: string;
      readonly teamId: string;
      readonly key: string;
    }
  | { readonly kind: 'admin'; readonly teamId: string | undefined };

const CALLER = 'nestboxCaller';

/** To be called once for the routes that ask who is there. */
export function prepareCallers(app: Pick<FastifyInstance, 'decorateRequest'>): void {
  app.decorateRequest(CALLER, null);
}

export function noteCaller(request: FastifyRequest, caller: Caller): void {
  request.setDecorator(CALLER, caller);
}

/** Undefined: the request was refused before it was known who had sent it. */
export function knownCallerOf(request: FastifyRequest): Caller | undefined {
  return request.getDecorator<Caller | null>(CALLER) ?? undefined;
}

export function callerOf(request: FastifyRequest): Caller {
  const caller = knownCallerOf(request);
  if (caller === undefined) throw new NestboxError('internal', 'A route asked who is there, and nobody had looked.');
  return caller;
}

/** What the request may see. Throws `invalid_request` for an administrator who names no team. */
export function teamContext(context: ServiceContext, request: FastifyRequest): TeamContext {
  const { teamId } = callerOf(request);
  if (teamId === undefined)
    throw new NestboxError('invalid_request', 'Name the team that this is about in the header "X-Team-ID".');
  return forTeam(context, teamId);
}

/** Throws `forbidden` for a key: whoever has got hold of one must not be able to make more of them. */
function requireAdmin(request: FastifyRequest): void {
  if (callerOf(request).kind !== 'admin')
    throw new NestboxError('forbidden', 'This needs the admin token, in the header "X-Admin-Token".');
}

/** The team's, or everything for an administrator who names none. */
export function widestContext(context: ServiceContext, request: FastifyRequest): ScopedContext {
  const { teamId } = callerOf(request);
  return teamId === undefined ? forEveryTeam(context) : forTeam(context, teamId);
}

/** For paths that name the team. Throws `team_not_found` when it is not the caller's: nobody learns of another team. */
export function memberContext(context: ServiceContext, request: FastifyRequest, teamId: string): TeamContext {
  const caller = callerOf(request);
  if (caller.teamId === teamId || (caller.kind === 'admin' && caller.teamId === undefined))
    return forTeam(context, teamId);
  throw teamNotFound(teamId);
}

/** For the routes of administrators, before their bodies are read. */
export const forAdmin = { onRequest: async (request: FastifyRequest): Promise<void> => requireAdmin(request) };
