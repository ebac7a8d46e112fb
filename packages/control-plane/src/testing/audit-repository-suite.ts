import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Kysely } from 'kysely';
import {
  type AuditActor,
  type AuditEntry,
  type AuditFilter,
  insertAuditEntries,
  newAuditId,
  pageAuditEntries,
  trimAuditEntries,
} from '../store/audit-repository.ts';
import type { Database } from '../store/schema.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import { type RepositoryBackend, withDatabase } from './repository-backend.ts';
import { OTHER_TEAM, T0, TEAM } from './repository-samples.ts';

/** What every backend must do with the audit trail. */
export function describeAuditRepository(backend: RepositoryBackend): void {
  describe(`the audit trail on ${backend.name}`, () => {
    const withDb = (use: (db: Kysely<Database>) => Promise<void>) => withDatabase(backend, use);

    test('entries of the audit trail come back as they were stored, the newest first', () =>
      withDb(async (db) => {
        const plain = auditEntry(T0);
        const full: AuditEntry = {
          ...auditEntry(T0),
          requestId: 'r',
          targets: ['a', "b'\u{1f600}%"],
          teamId: TEAM.teamId,
          actor: { kind: 'key', keyId: 'k', name: 'a "key"' },
          address: '::1',
          status: 409,
          errorCode: 'conflict',
          count: 3,
        };
        const own: AuditEntry = {
          ...auditEntry(T0 - 1),
          actor: { kind: 'system' },
          status: undefined,
          reason: 'its time was over',
        };
        await insertAuditEntries(db, [full, plain, own]);
        await insertAuditEntries(db, []);
        const page = (filter: Partial<AuditFilter> = {}) =>
          pageAuditEntries(db, { scope: EVERY_TEAM, ...filter }, { limit: 10 });
        assert.deepEqual(await page(), [full, plain, own]);
        assert.deepEqual(await page({ actor: 'system' }), [own]);
        assert.deepEqual(await page({ actor: 'key' }), [full]);
        assert.deepEqual(await page({ scope: TEAM }), [full]);
        assert.deepEqual(await page({ target: "b'\u{1f600}%" }), [full]);
        assert.deepEqual(await page({ target: "b'\u{1f600}_" }), []);
        assert.deepEqual(await page({ keyId: 'k' }), [full]);
        assert.deepEqual(await page({ sinceMs: T0 + 1 }), []);
        assert.deepEqual(await page({ untilMs: T0 }), [own]);
      }));

    test('the audit trail drops what is old, and of each kind what is too much', () =>
      withDb(async (db) => {
        const of = (fields: Partial<AuditEntry>, atMs: number) => ({ ...auditEntry(atMs), ...fields });
        const key: AuditActor = { kind: 'key', keyId: 'k', name: 'k' };
        const kinds: Partial<AuditEntry>[] = [
          { actor: key, teamId: TEAM.teamId },
          { actor: key, teamId: OTHER_TEAM.teamId },
          { actor: { kind: 'admin' }, teamId: TEAM.teamId },
          {},
        ];
        for (const kind of kinds)
          await insertAuditEntries(
            db,
            [0, 1, 2, 3].map((age) => of(kind, T0 + age)),
          );
        await insertAuditEntries(db, [of({ actor: key, teamId: TEAM.teamId }, T0 + 4)]);
        await trimAuditEntries(db, T0 + 1, 2);
        const left = await pageAuditEntries(db, { scope: EVERY_TEAM }, { limit: 100 });
        const times = ({ actor = auditEntry(0).actor, teamId }: Partial<AuditEntry>) =>
          left
            .filter((entry) => entry.actor.kind === actor.kind && entry.teamId === teamId)
            .map(({ atMs }) => atMs - T0);
        assert.deepEqual(kinds.map(times), [
          [4, 3],
          [3, 2],
          [3, 2],
          [3, 2],
        ]);
      }));
  });
}

function auditEntry(atMs: number): AuditEntry {
  return {
    id: newAuditId(atMs),
    atMs,
    requestId: undefined,
    operation: 'sandbox.kill',
    targets: [],
    teamId: undefined,
    actor: { kind: 'unknown' },
    address: undefined,
    status: 204,
    errorCode: undefined,
    count: 1,
    reason: undefined,
  };
}
