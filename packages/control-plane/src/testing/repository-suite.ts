import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Kysely, sql } from 'kysely';
import { MIGRATIONS, migrate } from '../store/migrate.ts';
import { countRunningByTeam, listSandboxIdsOfTeam } from '../store/sandbox-list-repository.ts';
import { toRow } from '../store/sandbox-record.ts';
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
import { getDefaultTeam } from '../store/team-repository.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import { countSpawn, forgetUsage, listTemplateUsage } from '../store/template-usage-repository.ts';
import { describeAuditRepository } from './audit-repository-suite.ts';
import { describeLeaseRepository } from './lease-repository-suite.ts';
import { describeLists } from './list-suite.ts';
import { describeOwners } from './owner-repository-suite.ts';
import { type RepositoryBackend, withDatabase } from './repository-backend.ts';
import { OTHER_TEAM, record, T0, TEAM } from './repository-samples.ts';
import { describeTeamRepositories } from './team-repository-suite.ts';

/** What every backend must do. */
export function describeRepositories(backend: RepositoryBackend): void {
  describe(`repositories on ${backend.name}`, () => {
    const withDb = (use: (db: Kysely<Database>) => Promise<void>) => withDatabase(backend, use);

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
        const running = record('a', { state: 'running', revision: 1, ...ready, ...life });
        assert.deepEqual(await markRunning(db, 'a', ready, life), running);
        assert.deepEqual(await findSandbox(db, EVERY_TEAM, 'a'), running);
      }));

    test('a state changes only the way that the transition table allows', () =>
      withDb(async (db) => {
        const life = { startedAtMs: T0, endAtMs: T0 };
        const resumed = { endAtMs: T0, timeoutSec: 5, autoPause: undefined };
        const first = (id: string) => ({ id, revision: 0 });
        // Each way of one sandbox into a state, with the states that it is meant for.
        const ways: readonly [string, SandboxState, readonly SandboxState[], (id: string) => Promise<unknown>][] = [
          ['markRunning', 'running', ['starting'], (id) => markRunning(db, id, ready, life)],
          ['markPausing', 'pausing', ['running'], (id) => markPausing(db, id, true, 'server')],
          ['markPaused', 'paused', ['running', 'pausing', 'resuming'], (id) => markPaused(db, first(id), T0, true)],
          ['markResuming', 'resuming', ['paused'], (id) => markResuming(db, id, 'server')],
          ['markResumed', 'running', ['resuming'], (id) => markResumed(db, first(id), ready, resumed)],
          [
            'markFoundRunning',
            'running',
            ['pausing', 'paused', 'resuming'],
            (id) => markFoundRunning(db, first(id), T0),
          ],
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
        const pausing = await markPausing(db, 'a', true, 'server');
        assert.ok(pausing);
        assert.deepEqual([pausing.endAtMs, pausing.owner], [T0 + 60_000, 'server']);
        const paused = await markPaused(db, pausing, T0 + 7, false);
        assert.ok(paused);
        assert.deepEqual([paused?.state, paused?.endAtMs, paused?.pausedMemory], ['paused', T0 + 7, false]);
        assert.equal(paused.owner, undefined);
        const resuming = await markResuming(db, 'a', 'server');
        assert.ok(resuming);
        assert.equal(resuming.owner, 'server');
        assert.deepEqual(await markPaused(db, resuming, T0 + 99, false), { ...paused, revision: paused.revision + 2 });
      }));

    test('a resume sets the end, what was asked for, and the settings that came with it', () =>
      withDb(async (db) => {
        const settings = { autoPause: true, autoResume: true };
        const resume = async (id: string, timeoutSec: number, autoPause?: boolean) => {
          await insertSandboxes(db, [record(id, { state: 'resuming', ...settings })]);
          const found = await markResumed(db, { id, revision: 0 }, ready, { endAtMs: T0 + 5, timeoutSec, autoPause });
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
        const endAtMs = async (id: string) => (await markFoundRunning(db, { id, revision: 0 }, T0 + 100))?.endAtMs;
        assert.equal(await endAtMs('pausing'), T0 + 1);
        assert.equal(await endAtMs('paused'), T0 + 20_100);
        assert.equal(await endAtMs('resuming'), T0 + 20_100);
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

    const take = (db: Kysely<Database>, state: 'running' | 'stopping', nowMs: number, limit = 10) =>
      takeDue(db, { state, hostIds: ['host-1'], nowMs, limit }, nowMs + 10, 'server');
    const due = (id: string, state: SandboxState) => ({ id, hostId: 'host-1', ...TEAM, state });

    test('due are running and stopping sandboxes at their end, the longest due first', () =>
      withDb(async (db) => {
        assert.equal(await nextDueAtMs(db, ['host-1']), undefined);
        await insertSandboxes(db, [
          record('later', { state: 'running', endAtMs: T0 + 20 }),
          record('second', { state: 'running', endAtMs: T0 + 4 }),
          record('first', { state: 'running', endAtMs: T0 + 1 }),
          record('starting', { endAtMs: T0 }),
          record('stopping', { state: 'stopping', endAtMs: T0 + 5 }),
        ]);
        assert.equal(await nextDueAtMs(db, ['host-1']), T0 + 1);
        assert.deepEqual(await take(db, 'running', T0), []);
        assert.deepEqual(await take(db, 'running', T0 + 5, 1), [due('first', 'stopping')]);
        assert.equal((await findSandbox(db, EVERY_TEAM, 'first'))?.state, 'stopping');
        assert.deepEqual(await take(db, 'running', T0 + 5), [due('second', 'stopping')]);
        assert.deepEqual(await take(db, 'running', T0 + 5), [], 'nothing is taken twice');
        assert.deepEqual(await take(db, 'stopping', T0 + 5), [due('stopping', 'stopping')]);
        assert.deepEqual(await take(db, 'stopping', T0 + 5), [], 'nor tried again before its time');
        assert.equal(await nextDueAtMs(db, ['host-1']), T0 + 15);
        await postponeStop(db, 'stopping', T0 + 10);
        await postponeStop(db, 'later', T0 + 10);
        assert.deepEqual(await take(db, 'running', T0 + 10), []);
        assert.deepEqual(await take(db, 'stopping', T0 + 10), [due('stopping', 'stopping')]);
      }));

    test('what is due and is to be paused is pausing, and one that is being ended stays so', () =>
      withDb(async (db) => {
        const pausedAtEnd = { endAtMs: T0, autoPause: true };
        await insertSandboxes(db, [
          record('with', { state: 'running', ...pausedAtEnd }),
          record('without', { state: 'running', ...pausedAtEnd, autoPauseMemory: false }),
          record('stopping', { state: 'stopping', ...pausedAtEnd }),
          record('paused', { state: 'paused', ...pausedAtEnd }),
          record('pausing', { state: 'pausing', ...pausedAtEnd }),
          record('resuming', { state: 'resuming', ...pausedAtEnd }),
        ]);
        const taken = await take(db, 'running', T0);
        assert.deepEqual(
          taken.toSorted((a, b) => a.id.localeCompare(b.id)),
          [due('with', 'pausing'), due('without', 'pausing')],
        );
        assert.deepEqual(await take(db, 'stopping', T0), [due('stopping', 'stopping')]);
        const kept = async (id: string) => (await findSandbox(db, EVERY_TEAM, id))?.pausedMemory;
        assert.deepEqual([await kept('with'), await kept('without'), await kept('stopping')], [true, false, undefined]);
        assert.equal((await findSandbox(db, EVERY_TEAM, 'with'))?.endAtMs, T0 + 10);
        assert.deepEqual(await take(db, 'running', T0), []);
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
        const {
          team_id,
          auto_pause,
          auto_pause_memory,
          auto_resume,
          timeout_sec,
          paused_memory,
          owner,
          revision,
          ...before
        } = columns;
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
        assert.deepEqual(await take(db, 'running', old?.endAtMs ?? 0), [{ ...due('old', 'stopping'), teamId }]);
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
  });
  describeTeamRepositories(backend);
  describeAuditRepository(backend);
  describeLeaseRepository(backend);
  describeOwners(backend);
  describeLists(backend);
}
