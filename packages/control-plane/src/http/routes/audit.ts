import { type AuditEntryView, auditEntryBody, auditQuery } from '@nestbox/contract/http';
import { z } from 'zod';
import { listAudit } from '../../service/list-audit.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { AuditEntry } from '../../store/audit-repository.ts';
import type { ApiServer } from '../api-server.ts';
import { callerOf, widestContext } from '../caller.ts';

/** `GET /audit`, Nestbox's own: everything for an administrator, for a key what concerns its team. */
export function auditRoute(app: ApiServer, context: ServiceContext): void {
  app.get(
    '/audit',
    { schema: { querystring: auditQuery, response: { 200: z.array(auditEntryBody) } } },
    async (request, reply) => {
      const page = await listAudit(widestContext(context, request), request.query);
      if (page.nextToken !== undefined) reply.header('X-Next-Token', page.nextToken);
      const isAdmin = callerOf(request).kind === 'admin';
      return page.entries.map((entry) => viewEntry(entry, isAdmin));
    },
  );
}

/** Where administrators sit is told to administrators alone. */
function viewEntry(entry: AuditEntry, isAdmin: boolean): AuditEntryView {
  const { actor } = entry;
  return {
    id: entry.id,
    at: new Date(entry.atMs).toISOString(),
    requestID: entry.requestId ?? null,
    operation: entry.operation,
    targets: [...entry.targets],
    teamID: entry.teamId ?? null,
    actor: actor.kind === 'key' ? { kind: 'key', keyID: actor.keyId, name: actor.name } : actor,
    address: isAdmin || actor.kind === 'key' ? (entry.address ?? null) : null,
    status: entry.status ?? null,
    errorCode: entry.errorCode ?? null,
    count: entry.count,
    reason: entry.reason ?? null,
  };
}
