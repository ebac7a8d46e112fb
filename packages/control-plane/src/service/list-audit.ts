import { NestboxError } from '@nestbox/contract';
import type { AuditQuery } from '@nestbox/contract/http';
import { type AuditEntry, pageAuditEntries } from '../store/audit-repository.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import { teamNotFound } from './manage-teams.ts';
import type { ScopedContext } from './team-context.ts';

export interface AuditPage {
  readonly entries: readonly AuditEntry[];
  /** Undefined on the last page. */
  readonly nextToken: string | undefined;
}

/**
 * What was changed within the scope, newest first, up to this moment. Throws `invalid_request`, and `team_not_found` when
 * another team than the caller's is asked for.
 */
export async function listAudit(context: ScopedContext, query: AuditQuery): Promise<AuditPage> {
  const { scope, db, audit } = context;
  const { team, limit } = query;
  if (team !== undefined && scope !== EVERY_TEAM && scope.teamId !== team) throw teamNotFound(team);
  if (query.nextToken !== undefined && !/^[0-9a-f]{24}$/.test(query.nextToken))
    throw new NestboxError('invalid_request', 'The query parameter "nextToken" is none that this server gave out.');
  await audit.writeRefusals();
  const found = await pageAuditEntries(
    db,
    {
      scope: team === undefined ? scope : { teamId: team },
      operation: query.operation,
      target: query.target,
      keyId: query.keyID,
      actor: query.actor,
      sinceMs: query.since === undefined ? undefined : Date.parse(query.since),
      untilMs: query.until === undefined ? undefined : Date.parse(query.until),
    },
    { before: query.nextToken, limit: limit + 1 },
  );
  const entries = found.slice(0, limit);
  return { entries, nextToken: found.length > limit ? entries.at(-1)?.id : undefined };
}
