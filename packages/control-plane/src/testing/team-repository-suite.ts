import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Kysely, sql } from 'kysely';
import {
  type ApiKeyRecord,
  dropReplacedKeys,
  findApiKeyByHash,
  insertApiKey,
  listApiKeys,
  noteKeyUse,
  renameApiKey,
  revokeApiKey,
} from '../store/api-key-repository.ts';
import { pageAuditEntries } from '../store/audit-repository.ts';
import { MIGRATIONS, migrate } from '../store/migrate.ts';
import { insertSandboxes } from '../store/sandbox-repository.ts';
import type { Database } from '../store/schema.ts';
import { forgetSnapshotOwner, listSnapshotOwners, putSnapshotOwner } from '../store/snapshot-owner-repository.ts';
import {
  deleteTeam,
  findTeam,
  findTeamByName,
  getDefaultTeam,
  insertTeam,
  listTeams,
  updateTeam,
} from '../store/team-repository.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import {
  dropTeamUsageBefore,
  listTeamUsage,
  measureTeamUse,
  noteTeamUse,
  USAGE_PERIOD_MS,
} from '../store/team-usage-repository.ts';
import { type RepositoryBackend, withDatabase } from './repository-backend.ts';
import { OTHER_TEAM, record, T0, TEAM } from './repository-samples.ts';

/** What every backend must do with teams, keys, and what is a team's. */
export function describeTeamRepositories(backend: RepositoryBackend): void {
  describe(`repositories of teams on ${backend.name}`, () => {
    const withDb = (use: (db: Kysely<Database>) => Promise<void>) => withDatabase(backend, use);

    test('there is a default team, names are of one team each, and limits are changed one by one', () =>
      withDb(async (db) => {
        const standard = await getDefaultTeam(db);
        assert.equal(standard.name, 'default');
        const none = {
          maxRunning: undefined,
          maxVcpus: undefined,
          maxMemoryMib: undefined,
          maxCreatesPerMinute: undefined,
        };
        const team = { id: 'b', name: 'two', isDefault: false, createdAtMs: T0, limits: { ...none, maxRunning: 3 } };
        assert.equal(await insertTeam(db, team), true);
        assert.equal(await insertTeam(db, { ...team, id: 'c' }), false);
        assert.deepEqual(await findTeam(db, 'b'), team);
        assert.equal(await findTeam(db, 'c'), undefined);
        const limits = { ...none, maxMemoryMib: 5_000_000_000 };
        assert.deepEqual(await updateTeam(db, 'b', { name: 'zwei', limits }), { ...team, name: 'zwei', limits });
        assert.deepEqual(await updateTeam(db, 'b', {}), { ...team, name: 'zwei', limits });
        assert.equal(await updateTeam(db, 'c', { name: 'x' }), undefined);
        assert.equal((await findTeamByName(db, 'zwei'))?.id, 'b');
        assert.equal((await listTeams(db)).length, 2);
        assert.equal(await insertApiKey(db, keyRecord('k', { teamId: 'b' })), true);
        assert.equal(await deleteTeam(db, 'b'), true);
        assert.equal(await deleteTeam(db, 'b'), false);
        assert.equal(await findApiKeyByHash(db, 'hash of k'), undefined);
      }));

    test('a key comes back as it was stored, is renamed, used and revoked by its team alone, and revoked for ever', () =>
      withDb(async (db) => {
        const { id: teamId } = await getDefaultTeam(db);
        const key = keyRecord('k', { teamId, expiresAtMs: T0 + 5 });
        assert.equal(await insertApiKey(db, key), true);
        assert.deepEqual(await findApiKeyByHash(db, 'hash of k'), key);
        assert.deepEqual(await listApiKeys(db, { teamId }), [key]);
        assert.deepEqual(await listApiKeys(db, OTHER_TEAM), []);
        assert.equal(await renameApiKey(db, OTHER_TEAM, 'k', 'x'), false);
        assert.equal(await renameApiKey(db, { teamId }, 'k', 'x'), true);
        await noteKeyUse(db, 'k', T0 + 9);
        await noteKeyUse(db, 'k', T0 + 3);
        assert.deepEqual(await findApiKeyByHash(db, 'hash of k'), { ...key, name: 'x', lastUsedAtMs: T0 + 9 });
        assert.equal(await revokeApiKey(db, OTHER_TEAM, 'k', T0 + 10), false);
        assert.equal(await revokeApiKey(db, { teamId }, 'k', T0 + 10), true);
        assert.equal(await revokeApiKey(db, { teamId }, 'k', T0 + 11), false);
        assert.equal(await renameApiKey(db, { teamId }, 'k', 'y'), false);
        assert.deepEqual(await listApiKeys(db, { teamId }), []);
        assert.equal(await insertApiKey(db, keyRecord('again', { teamId, keyHash: 'hash of k' })), false);
        assert.equal((await findApiKeyByHash(db, 'hash of k'))?.revokedAtMs, T0 + 10);
      }));

    test('a configured key of an older version keeps its life under an id that is a UUID, in the audit trail too', async () => {
      const db = await backend.open();
      try {
        const { '0021-key-ids': _newest, ...before } = MIGRATIONS;
        await migrate(db, before);
        const { id: teamId } = await getDefaultTeam(db);
        const id = '8d5bb4a6-2c5e-4a0e-9d51-0a2f4c1f7b11';
        for (const [old, name] of [
          [`configured-${id}`, 'configured'],
          ['another', 'configured-by-hand'],
        ] as const)
          await sql`insert into api_keys (id, team_id, name, key_hash, value_length, shown_prefix, shown_suffix, created_at_ms)
            values (${old}, ${teamId}, ${name}, ${`hash of ${name}`}, 40, 'ab', 'cdef', ${T0})`.execute(db);
        await sql`insert into audit_entries (id, at_ms, operation, targets, actor, key_id, status, count)
            values ('e', ${T0}, 'key.rename', ${JSON.stringify([`configured-${id}`])}, 'key', ${`configured-${id}`}, 200, 1)`.execute(
          db,
        );
        await migrate(db);
        const keys = (await listApiKeys(db, { teamId })).map((key) => [key.id, key.name, key.isConfigured]);
        assert.deepEqual(keys, [
          [id, 'configured', true],
          ['another', 'configured-by-hand', false],
        ]);
        const [entry] = await pageAuditEntries(db, { scope: EVERY_TEAM, target: id, keyId: id }, { limit: 9 });
        assert.deepEqual(entry?.targets, [id]);
        await dropReplacedKeys(db, 'hash of the next');
        assert.deepEqual(
          (await listApiKeys(db, { teamId })).map((key) => key.id),
          ['another'],
        );
      } finally {
        await db.destroy();
      }
    });

    test('a snapshot has one owner, and keeps it', () =>
      withDb(async (db) => {
        await putSnapshotOwner(db, TEAM, 'tpl', T0);
        await putSnapshotOwner(db, OTHER_TEAM, 'tpl', T0);
        assert.deepEqual(await listSnapshotOwners(db), new Map([['tpl', TEAM.teamId]]));
        await forgetSnapshotOwner(db, 'tpl');
        assert.equal((await listSnapshotOwners(db)).size, 0);
      }));

    test('what a team takes is what runs or is about to', () =>
      withDb(async (db) => {
        assert.deepEqual(await measureTeamUse(db, TEAM), {
          running: 0,
          vcpus: 0,
          memoryMib: 0,
          nextEndAtMs: undefined,
        });
        await insertSandboxes(db, [
          record('a'),
          record('b', { state: 'running', endAtMs: T0 + 5 }),
          record('c', { state: 'paused' }),
          record('d', { state: 'stopping' }),
          record('e', { state: 'running', teamId: OTHER_TEAM.teamId }),
        ]);
        assert.deepEqual(await measureTeamUse(db, TEAM), {
          running: 2,
          vcpus: 4,
          memoryMib: 1024,
          nextEndAtMs: T0 + 5,
        });
      }));

    test('the use of a period adds up, and keeps its peak', () =>
      withDb(async (db) => {
        const start = T0 - (T0 % USAGE_PERIOD_MS);
        await noteTeamUse(db, TEAM, start + 5, { running: 3, starts: 1 });
        await noteTeamUse(db, TEAM, start + USAGE_PERIOD_MS - 1, { running: 2, starts: 2 });
        await noteTeamUse(db, TEAM, start + USAGE_PERIOD_MS, { running: 7, starts: 0 });
        await noteTeamUse(db, OTHER_TEAM, start, { running: 9, starts: 9 });
        assert.deepEqual(await listTeamUsage(db, TEAM, { fromMs: start, toMs: start }), [
          { startMs: start, peakRunning: 3, starts: 3 },
        ]);
        await dropTeamUsageBefore(db, start + 1);
        assert.deepEqual(await listTeamUsage(db, TEAM, { fromMs: 0, toMs: 8.64e15 }), [
          { startMs: start + USAGE_PERIOD_MS, peakRunning: 7, starts: 0 },
        ]);
      }));
  });
}

function keyRecord(id: string, overrides: Partial<ApiKeyRecord> = {}): ApiKeyRecord {
  return {
    id,
    teamId: TEAM.teamId,
    name: 'a key',
    keyHash: `hash of ${id}`,
    valueLength: 40,
    shownPrefix: 'ab',
    shownSuffix: 'cdef',
    createdAtMs: T0,
    lastUsedAtMs: undefined,
    expiresAtMs: undefined,
    revokedAtMs: undefined,
    isConfigured: false,
    ...overrides,
  };
}
