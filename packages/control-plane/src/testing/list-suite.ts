import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Kysely } from 'kysely';
import { stopAbandonedStarts } from '../store/abandoned-repository.ts';
import { type PageRange, type SandboxCursor, type SandboxFilter, SandboxLists } from '../store/sandbox-lists.ts';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import {
  deleteSandbox,
  extendEnd,
  findSandbox,
  insertSandboxes,
  setEgress,
  setEnd,
} from '../store/sandbox-repository.ts';
import type { SandboxState } from '../store/sandbox-state.ts';
import {
  markFoundRunning,
  markPaused,
  markPausing,
  markResumed,
  markResuming,
  markRunning,
  markStopping,
  postponeStop,
  takeDue,
} from '../store/sandbox-state-repository.ts';
import type { Database } from '../store/schema.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import { type RepositoryBackend, withDatabase } from './repository-backend.ts';
import { OTHER_TEAM, record, T0, TEAM } from './repository-samples.ts';

const everything: SandboxFilter = { scope: EVERY_TEAM, metadata: {}, states: ['running', 'paused'] };
const EVERY_STATE: readonly SandboxState[] = ['starting', 'running', 'pausing', 'paused', 'resuming', 'stopping'];

/** What every backend must do with lists of sandboxes. */
export function describeLists(backend: RepositoryBackend): void {
  describe(`lists of sandboxes on ${backend.name}`, () => {
    const withDb = (use: (db: Kysely<Database>) => Promise<void>) => withDatabase(backend, use);

    test('lists filter by every pair of metadata, by template id or name, and by start', () =>
      withDb(async (db) => {
        const lists = new SandboxLists(db, ({ id }) => id);
        const running = (id: string, overrides: Partial<SandboxRecord>) =>
          insertSandboxes(db, [record(id, { state: 'running', ...overrides })]);
        await running('a', { metadata: { app: 'x', env: 'prod' } });
        await running('b', { metadata: { app: 'x', env: 'dev' }, startedAtMs: T0 + 10 });
        await running('c', { metadata: { app: 'env' }, templateId: 'other', alias: undefined });
        await insertSandboxes(db, [record('d', { metadata: { app: 'x' } })]);
        await insertSandboxes(db, [record('p', { state: 'paused', metadata: { app: 'x' }, startedAtMs: T0 + 20 })]);
        const ids = async (narrowed: Partial<SandboxFilter>) => {
          const filter = { ...everything, ...narrowed };
          const { shown } = await lists.page(filter, { order: 'asc', limit: 10 });
          assert.equal(await lists.count(filter), shown.length);
          return shown.join();
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
        const lists = new SandboxLists(db, ({ id }) => id);
        const ids = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
        for (const [index, id] of ids.entries())
          await insertSandboxes(db, [record(id, { state: 'running', startedAtMs: T0 + Math.floor(index / 3) })]);
        for (const order of ['asc', 'desc'] as const) {
          const seen: string[] = [];
          let after: SandboxCursor | undefined;
          do {
            const page = await lists.page(everything, { order, after, limit: 2 });
            seen.push(...page.shown);
            after = page.end;
            // One in front of the page and one that has been seen: neither may shift what follows.
            await insertSandboxes(db, [record(`new-${order}-${seen.length}`, { startedAtMs: T0 - 1 })]);
            await deleteSandbox(db, `new-${order}-${seen.length}`);
          } while (after !== undefined);
          assert.deepEqual(seen, order === 'asc' ? ids : ids.toReversed());
        }
      }));

    test('one team does not see what belongs to another', () =>
      withDb(async (db) => {
        const lists = new SandboxLists(db, ({ id }) => id);
        await insertSandboxes(db, [
          record('mine', { state: 'running' }),
          record('theirs', { state: 'running', teamId: OTHER_TEAM.teamId }),
        ]);
        for (const [scope, id] of [
          [TEAM, 'mine'],
          [OTHER_TEAM, 'theirs'],
        ] as const) {
          const filter = { ...everything, scope };
          assert.deepEqual((await lists.page(filter, { order: 'asc', limit: 9 })).shown, [id]);
          assert.equal(await lists.count(filter), 1);
        }
      }));

    test('a row is read again when it has changed, and only then', () =>
      withDb(async (db) => {
        const read: string[] = [];
        const lists = new SandboxLists(db, ({ id, endAtMs }) => {
          read.push(id);
          return `${id} ${endAtMs - T0}`;
        });
        const list = async () => (await lists.page(everything, { order: 'asc', limit: 9 })).shown;
        await insertSandboxes(db, [record('a', { state: 'running' }), record('b', { state: 'running' })]);
        assert.deepEqual(await list(), ['a 60000', 'b 60000']);
        assert.deepEqual(await list(), ['a 60000', 'b 60000']);
        assert.deepEqual(read.splice(0), ['a', 'b']);
        await setEnd(db, EVERY_TEAM, 'b', T0 + 7, 1);
        assert.deepEqual(await list(), ['a 60000', 'b 7']);
        assert.deepEqual(read, ['b']);
      }));

    test('more rows than are read at once, and more than are kept, come in their order', () =>
      withDb(async (db) => {
        const ids = Array.from({ length: 350 }, (_, index) => `m${String(index).padStart(3, '0')}`);
        await insertSandboxes(
          db,
          ids.map((id) => record(id, { state: 'running' })),
        );
        const lists = new SandboxLists(db, ({ id }) => id, 100);
        for (let again = 0; again < 2; again++)
          assert.deepEqual(await lists.page(everything, { order: 'asc', limit: 1000 }), { shown: ids, end: undefined });
      }));

    test('a row that goes while a page is read is not on it, and the next page begins behind it all the same', () =>
      withDb(async (db) => {
        await insertSandboxes(
          db,
          ['a', 'b', 'c'].map((id) => record(id, { state: 'running' })),
        );
        const lists = new SandboxLists(db, ({ id }) => id);
        const reading = lists.page(everything, { order: 'asc', limit: 2 });
        await markStopping(db, 'b', T0);
        const { shown, end } = await reading;
        assert.deepEqual(
          shown.filter((id) => id !== 'b'),
          end?.id === 'b' ? ['a'] : ['a', 'c'],
        );
      }));

    test('whatever changes, a list that knows rows says the same as one that reads them all', async () => {
      const id = fc.constantFrom('a', 'b', 'c');
      const name = fc.constantFrom('insert', 'insert', ...Object.keys(CHANGES));
      const step = fc.tuple(name, id, fc.integer({ min: 0, max: 99_999 }));
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40 }), (steps) =>
          withDb(async (db) => {
            const show = (shown: object) => JSON.stringify(shown);
            const kept = new SandboxLists(db, show);
            const tight = new SandboxLists(db, show, 1000);
            const range: PageRange = { order: 'desc', limit: 2 };
            for (const [index, [name, id, value]] of steps.entries()) {
              await CHANGES[name]?.(db, id, value, index);
              for (const states of [EVERY_STATE, ['running'], ['paused', 'resuming']] as const) {
                const filter = { ...everything, states };
                const expected = await new SandboxLists(db, show).page(filter, range);
                assert.deepEqual(await kept.page(filter, range), expected, name);
                assert.deepEqual(await tight.page(filter, range), expected, name);
              }
            }
          }),
        ),
        { numRuns: 15 },
      );
    });
  });
}

const ready = { vcpuCount: 4, memoryMib: 1024, diskMib: 1, envdVersion: '1.0.0' };

/** Mostly such as change without another revision. */
const INSERTED_STATES: readonly SandboxState[] = [...EVERY_STATE, 'running', 'running', 'running', 'running'];

type Change = (db: Kysely<Database>, id: string, value: number, index: number) => Promise<unknown>;

/** Everything that writes rows of sandboxes. */
const CHANGES: Readonly<Record<string, Change>> = {
  insert: async (db, id, value, index) => {
    if ((await findSandbox(db, EVERY_TEAM, id)) !== undefined) return;
    const metadata = value % 2 === 0 ? { value: String(value), '"': '\u{1f600}' } : undefined;
    const state = INSERTED_STATES[value % INSERTED_STATES.length] ?? 'running';
    // What comes back under an id has a higher revision than all before.
    await insertSandboxes(db, [record(id, { state, metadata, startedAtMs: T0 + (value % 3), revision: index * 1000 })]);
  },
  delete: (db, id) => deleteSandbox(db, id),
  setEnd: (db, id, value) => setEnd(db, EVERY_TEAM, id, T0 + value, value),
  extendEnd: (db, id, value) => extendEnd(db, EVERY_TEAM, id, T0 + value, value),
  setEgress: (db, id) => setEgress(db, id, { allowInternetAccess: false, network: undefined }),
  markRunning: (db, id, value) => markRunning(db, id, ready, { startedAtMs: T0 + (value % 3), endAtMs: T0 + value }),
  markPausing: (db, id) => markPausing(db, id, true, 'server'),
  markPaused: async (db, id, value) => markPaused(db, await found(db, id), T0 + value, true),
  markResuming: (db, id) => markResuming(db, id, 'server'),
  markResumed: async (db, id, value) =>
    markResumed(db, await found(db, id), ready, { endAtMs: T0 + value, timeoutSec: 5, autoPause: undefined }),
  markFoundRunning: async (db, id, value) => markFoundRunning(db, await found(db, id), T0 + value),
  markStopping: (db, id, value) => markStopping(db, id, T0 + value),
  postponeStop: (db, id, value) => postponeStop(db, id, T0 + value),
  takeDue: (db, _id, value) => {
    const state = value % 2 === 0 ? 'running' : 'stopping';
    return takeDue(db, { state, hostIds: ['host-1'], nowMs: T0 + value, limit: 2 }, T0 + value + 1, 'server');
  },
  stopAbandonedStarts: (db, _id, value) => stopAbandonedStarts(db, 'host-1', T0 + value),
};

async function found(db: Kysely<Database>, id: string): Promise<Pick<SandboxRecord, 'id' | 'revision'>> {
  return { id, revision: (await findSandbox(db, EVERY_TEAM, id))?.revision ?? 0 };
}
