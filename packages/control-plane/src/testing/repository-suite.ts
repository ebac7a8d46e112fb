import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Kysely, sql } from 'kysely';
import {
  type ApiKeyRecord,
  findApiKeyByHash,
  insertApiKey,
  listApiKeys,
  noteKeyUse,
  renameApiKey,
  revokeApiKey,
} from '../store/api-key-repository.ts';
import {
  type AuditActor,
  type AuditEntry,
  type AuditFilter,
  insertAuditEntries,
  newAuditId,
  pageAuditEntries,
  trimAuditEntries,
} from '../store/audit-repository.ts';
import { MIGRATIONS, migrate } from '../store/migrate.ts';
import {
  countRunningByTeam,
  countSandboxes,
  listSandboxIdsOfTeam,
  pageSandboxes,
  type SandboxFilter,
} from '../store/sandbox-list-repository.ts';
import { type SandboxRecord, toRow } from '../store/sandbox-record.ts';
import {
  committedMemoryMib,
  deleteSandbox,
  extendEnd,
  findSandbox,
  insertSandboxes,
  listSandboxesOfHost,
  setEnd,
} from '../store/sandbox-repository.ts';
import { type SandboxState, STATES_BEFORE } from '../store/sandbox-state.ts';
import {
  markAllStartingAsStopping,
  markFoundRunning,
  markPaused,
  markPausing,
  markResumed,
  markResuming,
  markRunning,
  markStopping,
  nextDueAtMs,
  postponeStop,
  takeDue,
} from '../store/sandbox-state-repository.ts';
import type { Database, SandboxTable } from '../store/schema.ts';
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
import { countSpawn, forgetUsage, listTemplateUsage } from '../store/template-usage-repository.ts';

/** A database system that the repositories must work on. */
export interface RepositoryBackend {
  readonly name: string;
  /** An empty database that nobody else uses; it is gone with `destroy()`. */
  open(): Promise<Kysely<Database>> | Kysely<Database>;
}

const T0 = 1_700_000_000_000;
const TEAM = { teamId: 'team-1' };
const OTHER_TEAM = { teamId: 'team-2' };

function record(id: string, overrides: Partial<SandboxRecord> = {}): SandboxRecord {
  return {
    id,
    teamId: TEAM.teamId,
    state: 'starting',
    hostId: 'host-1',
    templateId: 'tpl',
    alias: 'base',
    metadata: undefined,
    vcpuCount: 2,
    memoryMib: 512,
    diskMib: 4096,
    envdVersion: '0.6.13',
    createdAtMs: T0,
    startedAtMs: T0,
    endAtMs: T0 + 60_000,
    secure: true,
    allowInternetAccess: undefined,
    allowPublicTraffic: true,
    network: undefined,
    autoPause: false,
    autoPauseMemory: true,
    autoResume: false,
    timeoutSec: 60,
    pausedMemory: undefined,
    ...overrides,
  };
}

const everything: SandboxFilter = { scope: EVERY_TEAM, metadata: {}, states: ['running', 'paused'] };

/** What every backend must do. */
export function describeRepositories(backend: RepositoryBackend): void {
  describe(`repositories on ${backend.name}`, () => {
    async function withDb(use: (db: Kysely<Database>) => Promise<void>): Promise<void> {
      const db = await backend.open();
      try {
        await migrate(db);
        await use(db);
      } finally {
        await db.destroy();
      }
    }

    test('a sandbox comes back as it was stored', () =>
      withDb(async (db) => {
        const plain = record('a');
        const full = record('b', {
          metadata: { 'k "1"': "v'\u{1f600}\n", '': '' },
          alias: undefined,
          secure: false,
          allowInternetAccess: false,
          allowPublicTraffic: false,
          network: { allowPublicTraffic: false, denyOut: ['0.0.0.0/0'] },
          autoPause: true,
          autoPauseMemory: false,
          autoResume: true,
          timeoutSec: 7,
          pausedMemory: false,
        });
        await insertSandboxes(db, [plain, full]);
        assert.deepEqual(await findSandbox(db, EVERY_TEAM, 'a'), plain);
        assert.deepEqual(await findSandbox(db, EVERY_TEAM, 'b'), full);
        assert.equal(await findSandbox(db, EVERY_TEAM, 'c'), undefined);
      }));

    test('a second sandbox with the same id is refused and leaves no metadata', () =>
      withDb(async (db) => {
        await insertSandboxes(db, [record('a')]);
        await assert.rejects(insertSandboxes(db, [record('a', { metadata: { k: 'v' } })]));
        assert.equal((await db.selectFrom('sandbox_metadata').selectAll().execute()).length, 0);
      }));

    test('inside a transaction everything is undone together', () =>
      withDb(async (db) => {
        await assert.rejects(
          db.transaction().execute(async (trx) => {
            await insertSandboxes(trx, [record('a', { metadata: { k: 'v' } })]);
            throw new Error('changed my mind');
          }),
          /changed my mind/,
        );
        assert.equal(await findSandbox(db, EVERY_TEAM, 'a'), undefined);
      }));

    const ready = { vcpuCount: 4, memoryMib: 1024, diskMib: 1, envdVersion: '1.0.0' };

    test('what a host tells of a sandbox that is ready goes into its row', () =>
      withDb(async (db) => {
        const life = { startedAtMs: T0 + 5, endAtMs: T0 + 9 };
        await insertSandboxes(db, [record('a')]);
        const running = record('a', { state: 'running', ...ready, ...life });
        assert.deepEqual(await markRunning(db, 'a', ready, life), running);
        assert.deepEqual(await findSandbox(db, EVERY_TEAM, 'a'), running);
      }));

    test('a state changes only the way that the transition table allows', () =>
      withDb(async (db) => {
        const life = { startedAtMs: T0, endAtMs: T0 };
        const resumed = { endAtMs: T0, timeoutSec: 5, autoPause: undefined };
        // Each way of one sandbox into a state, with the states that it is meant for.
        const ways: readonly [string, SandboxState, readonly SandboxState[], (id: string) => Promise<unknown>][] = [
          ['markRunning', 'running', ['starting'], (id) => markRunning(db, id, ready, life)],
          ['markPausing', 'pausing', ['running'], (id) => markPausing(db, id, true)],
          ['markPaused', 'paused', ['running', 'pausing', 'resuming'], (id) => markPaused(db, id, T0, true)],
          ['markResuming', 'resuming', ['paused'], (id) => markResuming(db, id)],
          ['markResumed', 'running', ['resuming'], (id) => markResumed(db, id, ready, resumed)],
          ['markFoundRunning', 'running', ['pausing', 'paused', 'resuming'], (id) => markFoundRunning(db, id, T0)],
          [
            'markStopping',
            'stopping',
            ['starting', 'running', 'pausing', 'paused', 'resuming'],
            (id) => markStopping(db, id, T0),
          ],
        ];
        const all: readonly SandboxState[] = ['starting', 'running', 'pausing', 'paused', 'resuming', 'stopping'];
        for (const [name, to, from, way] of ways) {
          for (const state of all) {
            const id = `${name}-${state}`;
            await insertSandboxes(db, [record(id, { state })]);
            const changed = Boolean(await way(id));
            assert.equal(changed, from.includes(state), id);
            assert.equal((await findSandbox(db, EVERY_TEAM, id))?.state, changed ? to : state, id);
          }
          assert.equal(Boolean(await way('none')), false, name);
        }
        for (const [to, before] of Object.entries(STATES_BEFORE)) {
          const covered = ways.filter((way) => way[1] === to).flatMap((way) => way[2]);
          assert.deepEqual(new Set(covered), new Set<SandboxState>(before), to);
        }
      }));

    test('a pause keeps when it was and what of it, also over a resume that fails', () =>
      withDb(async (db) => {
        await insertSandboxes(db, [record('a', { state: 'running' })]);
        assert.equal((await markPausing(db, 'a', true))?.endAtMs, T0 + 60_000);
        const paused = await markPaused(db, 'a', T0 + 7, false);
        assert.deepEqual([paused?.state, paused?.endAtMs, paused?.pausedMemory], ['paused', T0 + 7, false]);
        await markResuming(db, 'a');
        assert.deepEqual(await markPaused(db, 'a', T0 + 99, false), paused);
      }));

    test('a resume sets the end, what was asked for, and the settings that came with it', () =>
      withDb(async (db) => {
        const settings = { autoPause: true, autoResume: true };
        const resume = async (id: string, timeoutSec: number, autoPause?: boolean) => {
          await insertSandboxes(db, [record(id, { state: 'resuming', ...settings })]);
          const found = await markResumed(db, id, ready, { endAtMs: T0 + 5, timeoutSec, autoPause });
          assert.deepEqual([found?.endAtMs, found?.memoryMib, found?.startedAtMs], [T0 + 5, 1024, T0]);
          return [found?.timeoutSec, found?.autoPause, found?.autoResume];
        };
        assert.deepEqual(await resume('a', 5), [5, true, true]);
        assert.deepEqual(await resume('b', 0), [60, true, true], '0 s is no wish for a life');
        assert.deepEqual(await resume('c', 5, true), [5, true, true]);
        assert.deepEqual(await resume('d', 5, false), [5, false, false], 'no waking without pausing');
      }));

    test('a sandbox that is found running keeps its end, or gets the time that was last asked for', () =>
      withDb(async (db) => {
        for (const state of ['pausing', 'paused', 'resuming'] as const)
          await insertSandboxes(db, [record(state, { state, endAtMs: T0 + 1, timeoutSec: 20 })]);
        const endAtMs = async (id: string) => (await markFoundRunning(db, id, T0 + 100))?.endAtMs;
        assert.equal(await endAtMs('pausing'), T0 + 1);
        assert.equal(await endAtMs('paused'), T0 + 20_100);
        assert.equal(await endAtMs('resuming'), T0 + 20_100);
      }));

    test('what was starting is stopping after a restart, and nothing else changes', () =>
      withDb(async (db) => {
        await insertSandboxes(db, [record('a')]);
        await insertSandboxes(db, [record('b', { state: 'running' })]);
        assert.equal(await markAllStartingAsStopping(db, T0), 1);
        assert.equal((await findSandbox(db, EVERY_TEAM, 'a'))?.state, 'stopping');
        assert.equal((await findSandbox(db, EVERY_TEAM, 'b'))?.state, 'running');
      }));

    test('the end of a running sandbox moves both ways when set, and only later when extended', () =>
      withDb(async (db) => {
        await insertSandboxes(db, [record('a', { state: 'running', endAtMs: T0 + 100 })]);
        const endAtMs = async () => (await findSandbox(db, EVERY_TEAM, 'a'))?.endAtMs;
        assert.equal(await extendEnd(db, EVERY_TEAM, 'a', T0 + 50), true);
        assert.equal(await endAtMs(), T0 + 100);
        assert.equal(await extendEnd(db, EVERY_TEAM, 'a', T0 + 200), true);
        assert.equal(await endAtMs(), T0 + 200);
        assert.equal(await setEnd(db, EVERY_TEAM, 'a', T0 + 10, 1), true);
        assert.equal(await endAtMs(), T0 + 10);
        await markStopping(db, 'a', T0);
        assert.equal(await setEnd(db, EVERY_TEAM, 'a', T0 + 10, 1), false);
        assert.equal(await extendEnd(db, EVERY_TEAM, 'a', T0 + 10), false);
      }));

    test('what was last asked for is kept when it had an effect, and when it is a wish for a life', () =>
      withDb(async (db) => {
        await insertSandboxes(db, [record('a', { state: 'running', endAtMs: T0 + 100, timeoutSec: 60 })]);
        const timeoutSec = async () => (await findSandbox(db, EVERY_TEAM, 'a'))?.timeoutSec;
        await extendEnd(db, EVERY_TEAM, 'a', T0 + 50, 5);
        assert.equal(await timeoutSec(), 60);
        await extendEnd(db, EVERY_TEAM, 'a', T0 + 200, 6);
        assert.equal(await timeoutSec(), 6);
        await extendEnd(db, EVERY_TEAM, 'a', T0 + 300);
        assert.equal(await timeoutSec(), 6);
        await setEnd(db, EVERY_TEAM, 'a', T0 + 1, 7);
        assert.equal(await timeoutSec(), 7);
        await setEnd(db, EVERY_TEAM, 'a', T0, 0);
        assert.equal(await timeoutSec(), 7);
      }));

    test('due are running and stopping sandboxes at their end, the longest due first', () =>
      withDb(async (db) => {
        assert.equal(await nextDueAtMs(db), undefined);
        await insertSandboxes(db, [record('later', { state: 'running', endAtMs: T0 + 20 })]);
        await insertSandboxes(db, [record('first', { state: 'running', endAtMs: T0 + 1 })]);
        await insertSandboxes(db, [record('starting', { endAtMs: T0 })]);
        await insertSandboxes(db, [record('stopping', { state: 'stopping', endAtMs: T0 + 5 })]);
        assert.equal(await nextDueAtMs(db), T0 + 1);
        const stopping = (id: string) => ({ id, state: 'stopping' as const });
        assert.deepEqual(await takeDue(db, T0, T0 + 99, 10), []);
        assert.deepEqual(await takeDue(db, T0 + 5, T0 + 99, 1), [stopping('first')]);
        assert.equal((await findSandbox(db, EVERY_TEAM, 'first'))?.state, 'stopping');
        assert.deepEqual(await takeDue(db, T0 + 5, T0 + 99, 10), [stopping('stopping')], 'nothing is taken twice');
        assert.equal(await nextDueAtMs(db), T0 + 20);
        await postponeStop(db, 'stopping', T0 + 10);
        await postponeStop(db, 'later', T0 + 10);
        assert.deepEqual(await takeDue(db, T0 + 10, T0 + 99, 10), [stopping('stopping')]);
      }));

    test('what is due and is to be paused is pausing, and one that is being ended stays so', () =>
      withDb(async (db) => {
        const due = { endAtMs: T0, autoPause: true };
        await insertSandboxes(db, [
          record('with', { state: 'running', ...due }),
          record('without', { state: 'running', ...due, autoPauseMemory: false }),
          record('stopping', { state: 'stopping', ...due }),
          record('paused', { state: 'paused', ...due }),
          record('pausing', { state: 'pausing', ...due }),
          record('resuming', { state: 'resuming', ...due }),
        ]);
        const taken = await takeDue(db, T0, T0 + 10, 10);
        assert.deepEqual(
          taken.toSorted((a, b) => a.id.localeCompare(b.id)),
          [
            { id: 'stopping', state: 'stopping' },
            { id: 'with', state: 'pausing' },
            { id: 'without', state: 'pausing' },
          ],
        );
        const kept = async (id: string) => (await findSandbox(db, EVERY_TEAM, id))?.pausedMemory;
        assert.deepEqual([await kept('with'), await kept('without'), await kept('stopping')], [true, false, undefined]);
        assert.equal((await findSandbox(db, EVERY_TEAM, 'with'))?.endAtMs, T0 + 10);
        assert.deepEqual(await takeDue(db, T0, T0 + 10, 10), []);
      }));

    test('many sandboxes are stored at once, or none of them', () =>
      withDb(async (db) => {
        const metadata = Object.fromEntries(Array.from({ length: 30 }, (_, index) => [`k${index}`, 'v']));
        const many = Array.from({ length: 100 }, (_, index) => record(`m${index}`, { metadata }));
        await insertSandboxes(db, many);
        assert.deepEqual(await findSandbox(db, EVERY_TEAM, 'm99'), many[99]);
        await assert.rejects(insertSandboxes(db, [record('new'), record('m0')]));
        assert.equal(await findSandbox(db, EVERY_TEAM, 'new'), undefined);
      }));

    test('deleting takes the metadata along and tells whether there was something', () =>
      withDb(async (db) => {
        await insertSandboxes(db, [record('a', { metadata: { k: 'v' } })]);
        assert.equal(await deleteSandbox(db, 'a'), true);
        assert.equal(await deleteSandbox(db, 'a'), false);
        assert.equal((await db.selectFrom('sandbox_metadata').selectAll().execute()).length, 0);
      }));

    test('lists filter by every pair of metadata, by template id or name, and by start', () =>
      withDb(async (db) => {
        const running = (id: string, overrides: Partial<SandboxRecord>) =>
          insertSandboxes(db, [record(id, { state: 'running', ...overrides })]);
        await running('a', { metadata: { app: 'x', env: 'prod' } });
        await running('b', { metadata: { app: 'x', env: 'dev' }, startedAtMs: T0 + 10 });
        await running('c', { metadata: { app: 'env' }, templateId: 'other', alias: undefined });
        await insertSandboxes(db, [record('d', { metadata: { app: 'x' } })]);
        await insertSandboxes(db, [record('p', { state: 'paused', metadata: { app: 'x' }, startedAtMs: T0 + 20 })]);
        const ids = async (narrowed: Partial<SandboxFilter>) => {
          const filter = { ...everything, ...narrowed };
          const found = await pageSandboxes(db, filter, { order: 'asc', limit: 10 });
          assert.equal(await countSandboxes(db, filter), found.length);
          return found.map(({ id }) => id).join();
        };
        assert.equal(await ids({}), 'a,c,b,p');
        assert.equal(await ids({ states: ['running'] }), 'a,c,b');
        assert.equal(await ids({ states: ['paused'] }), 'p');
        assert.equal(await ids({ states: ['starting'] }), 'd');
        assert.equal(await ids({ states: [] }), '');
        assert.equal(await ids({ metadata: { app: 'x' } }), 'a,b,p');
        assert.equal(await ids({ metadata: { app: 'x', env: 'dev' } }), 'b');
        assert.equal(await ids({ metadata: { env: 'x' } }), '');
        assert.equal(await ids({ template: 'base' }), 'a,b,p');
        assert.equal(await ids({ template: 'other' }), 'c');
        assert.equal(await ids({ startedAfterMs: T0 + 10 }), 'b,p');
        assert.equal(await ids({ startedAfterMs: T0 + 21 }), '');
        assert.equal(await ids({ metadata: { "' or 1=1 --": '' } }), '');
      }));

    test('paging sees everything once in both orders while sandboxes come and go, also with equal starts', () =>
      withDb(async (db) => {
        const ids = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
        for (const [index, id] of ids.entries())
          await insertSandboxes(db, [record(id, { state: 'running', startedAtMs: T0 + Math.floor(index / 3) })]);
        for (const order of ['asc', 'desc'] as const) {
          const seen: string[] = [];
          let after: { startedAtMs: number; id: string } | undefined;
          for (;;) {
            const page = await pageSandboxes(db, everything, { order, after, limit: 2 });
            if (page.length === 0) break;
            seen.push(...page.map(({ id }) => id));
            after = page.at(-1);
            // One in front of the page and one that has been seen: neither may shift what follows.
            await insertSandboxes(db, [record(`new-${order}-${seen.length}`, { startedAtMs: T0 - 1 })]);
            await deleteSandbox(db, `new-${order}-${seen.length}`);
          }
          assert.deepEqual(seen, order === 'asc' ? ids : ids.toReversed());
        }
      }));

    test('memory is counted by host, whatever the state, but not of paused sandboxes', () =>
      withDb(async (db) => {
        await insertSandboxes(db, [record('a')]);
        await insertSandboxes(db, [record('b', { state: 'running', memoryMib: 100 })]);
        await insertSandboxes(db, [record('c', { hostId: 'host-2', memoryMib: 7 })]);
        await insertSandboxes(db, [record('d', { state: 'paused', memoryMib: 5000 })]);
        await insertSandboxes(db, [record('e', { state: 'resuming', memoryMib: 1000 })]);
        assert.deepEqual(
          await committedMemoryMib(db),
          new Map([
            ['host-1', 1612],
            ['host-2', 7],
          ]),
        );
        assert.deepEqual(
          (await listSandboxesOfHost(db, 'host-2')).map(({ id }) => id),
          ['c'],
        );
      }));

    test('uses of a template are counted', () =>
      withDb(async (db) => {
        await countSpawn(db, TEAM, 'tpl', T0);
        await countSpawn(db, TEAM, 'tpl', T0 + 5);
        assert.deepEqual((await listTemplateUsage(db, TEAM)).get('tpl'), { spawnCount: 2, lastSpawnedAtMs: T0 + 5 });
        await forgetUsage(db, 'tpl');
        assert.equal((await listTemplateUsage(db, TEAM)).size, 0);
      }));

    test('a database of the first version keeps its sandboxes, which end at their time-out as they did', async () => {
      const db = await backend.open();
      try {
        const { '0001-sandboxes': first } = MIGRATIONS;
        assert.ok(first !== undefined);
        await migrate(db, { '0001-sandboxes': first });
        const { id, ...columns } = toRow(record('old', { state: 'running', metadata: { k: 'v' } }));
        const { team_id, auto_pause, auto_pause_memory, auto_resume, timeout_sec, paused_memory, ...before } = columns;
        // The row as that version wrote it: the type is of today.
        await db
          .insertInto('sandboxes')
          .values({ id, ...before } as SandboxTable)
          .execute();
        await sql`insert into template_usage values ('tpl', 4, ${T0})`.execute(db);
        await migrate(db);
        const old = await findSandbox(db, EVERY_TEAM, 'old');
        const { id: teamId } = await getDefaultTeam(db);
        assert.deepEqual(old, record('old', { teamId, state: 'running', metadata: { k: 'v' }, timeoutSec: 300 }));
        assert.equal((await listTemplateUsage(db, { teamId })).get('tpl')?.spawnCount, 4);
        assert.deepEqual(await takeDue(db, old?.endAtMs ?? 0, T0, 1), [{ id: 'old', state: 'stopping' }]);
      } finally {
        await db.destroy();
      }
    });

    test('a sandbox of one team is not there for another', () =>
      withDb(async (db) => {
        await insertSandboxes(db, [
          record('mine', { state: 'running' }),
          record('theirs', { state: 'running', teamId: OTHER_TEAM.teamId }),
        ]);
        assert.equal((await findSandbox(db, TEAM, 'mine'))?.id, 'mine');
        assert.equal(await findSandbox(db, TEAM, 'theirs'), undefined);
        assert.equal(await setEnd(db, TEAM, 'theirs', T0, 5), false);
        assert.equal(await extendEnd(db, TEAM, 'theirs', T0 + 999_999, 5), false);
        assert.equal((await findSandbox(db, EVERY_TEAM, 'theirs'))?.endAtMs, T0 + 60_000);
        const filter: SandboxFilter = { ...everything, scope: TEAM };
        assert.deepEqual(
          (await pageSandboxes(db, filter, { order: 'asc', limit: 9 })).map(({ id }) => id),
          ['mine'],
        );
        assert.equal(await countSandboxes(db, filter), 1);
        assert.deepEqual(await listSandboxIdsOfTeam(db, OTHER_TEAM), ['theirs']);
        assert.deepEqual(
          await countRunningByTeam(db),
          new Map([
            [TEAM.teamId, 1],
            [OTHER_TEAM.teamId, 1],
          ]),
        );
      }));

    test('uses of a template are counted by team', () =>
      withDb(async (db) => {
        await countSpawn(db, TEAM, 'tpl', T0);
        assert.equal((await listTemplateUsage(db, OTHER_TEAM)).size, 0);
      }));

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
        await insertAuditEntries(db, [full, plain]);
        await insertAuditEntries(db, []);
        const page = (filter: Partial<AuditFilter> = {}) =>
          pageAuditEntries(db, { scope: EVERY_TEAM, ...filter }, { limit: 10 });
        assert.deepEqual(await page(), [full, plain]);
        assert.deepEqual(await page({ scope: TEAM }), [full]);
        assert.deepEqual(await page({ target: "b'\u{1f600}%" }), [full]);
        assert.deepEqual(await page({ target: "b'\u{1f600}_" }), []);
        assert.deepEqual(await page({ keyId: 'k' }), [full]);
        assert.deepEqual(await page({ sinceMs: T0 + 1 }), []);
        assert.deepEqual(await page({ untilMs: T0 }), []);
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
  };
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
    ...overrides,
  };
}
