import { z } from 'zod';
import { pageLimit, timestamp } from './common.ts';

/** Query of `GET /audit`. Nestbox's own. */
export const auditQuery = z.object({
  /** Id of a team; a key may ask for its own alone. */
  team: z.string().optional(),
  /** `sandbox.create`, or `sandbox` for all that begin with `sandbox.`. */
  operation: z.string().optional(),
  /** Id of what was changed or made. */
  target: z.string().optional(),
  keyID: z.string().optional(),
  /** Who it was; `system` is the server by itself. */
  actor: z.enum(['key', 'admin', 'system', 'unknown']).optional(),
  since: timestamp.optional(),
  until: timestamp.optional(),
  limit: pageLimit,
  nextToken: z.string().optional(),
});
export type AuditQuery = z.infer<typeof auditQuery>;

/** Who it was. `system`: the server by itself. `unknown`: nobody whom the server knows; such a request was refused. */
const auditActor = z.discriminatedUnion('kind', [
  /** `name` is what the key was called then. */
  z.object({ kind: z.literal('key'), keyID: z.string(), name: z.string() }),
  z.object({ kind: z.literal('admin') }),
  z.object({ kind: z.literal('system') }),
  z.object({ kind: z.literal('unknown') }),
]);

/** A change that was asked for by the API or made by the server itself, or some refused attempts to get in. */
export const auditEntryBody = z.object({
  id: z.string(),
  at: timestamp,
  /** What the answer had in `X-Request-Id`; null for attempts that were counted together, and without a request. */
  requestID: z.string().nullable(),
  operation: z.string(),
  /** Ids of what was to be changed, then of what was made. */
  targets: z.array(z.string()),
  /** Whose it was; null when it was no team's. */
  teamID: z.string().nullable(),
  actor: auditActor,
  /** Where the connection came from; null: not told, or from several. */
  address: z.string().nullable(),
  /** Of the answer; null when nobody was answered. */
  status: z.int().nullable(),
  errorCode: z.string().nullable(),
  /** How often, in the minute that began at `at`; 1 unless attempts were counted together. */
  count: z.int(),
  /** Why the server did it by itself; null otherwise. */
  reason: z.string().nullable(),
});
export type AuditEntryView = z.infer<typeof auditEntryBody>;
