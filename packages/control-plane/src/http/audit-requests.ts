import { errorBody } from '@nestbox/contract/http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { AuditTrail } from '../service/audit-trail.ts';
import type { AuditActor } from '../store/audit-repository.ts';
import { AUDITED_OPERATIONS } from './audited-operations.ts';
import { type Caller, knownCallerOf } from './caller.ts';

/** Ids of what a request has made, for the audit trail. */
const MADE = 'nestboxMade';
/** Where a request came from: a connection that has ended does not tell it any more. */
const ADDRESS = 'nestboxAddress';

/** To be called once for the routes whose changes are written down. */
export function prepareAudit(app: { decorateRequest(name: string, value: null): unknown }): void {
  app.decorateRequest(MADE, null);
  app.decorateRequest(ADDRESS, null);
}

/** To be called when a request begins. */
export function noteAddress(request: FastifyRequest): void {
  if (request.method !== 'GET') request.setDecorator(ADDRESS, request.ip);
}

/** To be called by routes that make something: its id stands in no path. */
export function noteMade(request: FastifyRequest, ids: readonly string[]): void {
  request.setDecorator(MADE, ids);
}

/**
 * Writes down what a request was to change and what became of it, before its answer leaves. Nothing of bodies and headers:
 * those hold secrets. Requests that only look, and those of nobody, are let through.
 */
export async function auditRequest(
  trail: AuditTrail,
  request: FastifyRequest,
  reply: FastifyReply,
  payload: unknown,
): Promise<void> {
  if (request.method === 'GET') return;
  const operation = AUDITED_OPERATIONS[`${request.method} ${request.routeOptions.url}`];
  const caller = knownCallerOf(request);
  if (operation === undefined || caller === undefined) return;
  const inPath = paramsOf(request);
  const teamId = inPath.get('teamID');
  const within = [...inPath].filter(([name]) => name !== 'teamID').map(([, id]) => id);
  const targets = [...within, ...(request.getDecorator<readonly string[] | null>(MADE) ?? [])];
  await trail.note({
    requestId: request.id,
    operation,
    targets: targets.length === 0 && teamId !== undefined ? [teamId] : targets,
    teamId: caller.teamId ?? teamId,
    actor: actorOf(caller),
    address: request.getDecorator<string | null>(ADDRESS) ?? undefined,
    status: reply.statusCode,
    errorCode: reply.statusCode < 400 ? undefined : errorCodeOf(payload),
    reason: undefined,
  });
}

function actorOf(caller: Caller): AuditActor {
  return caller.kind === 'key' ? { kind: 'key', keyId: caller.keyId, name: caller.name } : { kind: 'admin' };
}

function paramsOf({ params }: FastifyRequest): ReadonlyMap<string, string> {
  if (typeof params !== 'object' || params === null) return new Map();
  return new Map(Object.entries(params).map(([name, value]) => [name, shownId(String(value))]));
}

/** Longer than any id or name with its tag. */
const MAX_ID_LENGTH = 300;

/** What stands in a path is anybody's words: a key that was put there by mistake is not kept. */
function shownId(word: string): string {
  const short = word.slice(0, MAX_ID_LENGTH).replaceAll('\0', '');
  return short.replaceAll(/e2b_[0-9a-f]+/gi, 'e2b_…');
}

function errorCodeOf(payload: unknown): string | undefined {
  if (typeof payload !== 'string') return undefined;
  return errorBody.safeParse(JSON.parse(payload)).data?.error_code;
}
