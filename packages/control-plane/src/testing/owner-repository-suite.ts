import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { Kysely } from 'kysely';
import { listAbandoned, listOwnTransitions, stopAbandonedStarts } from '../store/abandoned-repository.ts';
import { isServerAlive, serverLease, takeLease } from '../store/lease-repository.ts';
import { deleteSandbox, findSandbox, insertSandboxes } from '../store/sandbox-repository.ts';
import type { SandboxState } from '../store/sandbox-state.ts';
import {
  markFoundRunning,
  markPaused,
  markPausing,
  markResumed,
  markResuming,
  markStopping,
  takeDue,
} from '../store/sandbox-state-repository.ts';
import type { Database } from '../store/schema.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import { type RepositoryBackend, withDatabase } from './repository-backend.ts';
import { record, T0 } from './repository-samples.ts';

/** What every backend must do with rows that a server works on. */
export function describeOwners(backend: RepositoryBackend): void {
  describe(`owners of sandboxes on ${backend.name}`, () => {
    const withDb = (use: (db: Kysely<Database>) => Promise<void>) => withDatabase(backend, use);
    const live = (db: Kysely<Database>, holder: string, ttlMs: number) =>
      takeLease(db, { name: serverLease(holder), holder, reaches: true, ttlMs });

    test('what was under way when its server died is abandoned, and nothing else', () =>
      withDb(async (db) => {
        await live(db, 'alive', 600_000);
        await live(db, 'dead', 10);
        await delay(20);
        assert.deepEqual([await isServerAlive(db, 'alive'), await isServerAlive(db, 'dead')], [true, false]);
        const states: SandboxState[] = ['starting', 'running', 'pausing', 'paused', 'resuming', 'stopping'];
        for (const owner of ['alive', 'dead', 'unknown', undefined])
          for (const state of states) await insertSandboxes(db, [record(`${owner}-${state}`, { owner, state })]);
        await insertSandboxes(db, [record('elsewhere', { hostId: 'host-2', owner: 'dead' })]);
        const idsOf = (found: readonly { readonly id: string }[]) => new Set(found.map(({ id }) => id));
        const abandoned = idsOf(await listAbandoned(db, ['host-1']));
        const expected = ['dead', 'unknown', 'undefined'].flatMap((owner) =>
          ['starting', 'pausing', 'resuming'].map((state) => `${owner}-${state}`),
        );
        assert.deepEqual(abandoned, new Set(expected));
        assert.deepEqual(idsOf(await listOwnTransitions(db, 'alive')), new Set(['alive-pausing', 'alive-resuming']));

        assert.equal((await stopAbandonedStarts(db, 'host-1', T0 + 5)).length, 3);
        const stopped = await findSandbox(db, EVERY_TEAM, 'dead-starting');
        assert.deepEqual(
          [stopped?.state, stopped?.endAtMs, stopped?.owner, stopped?.revision],
          ['stopping', T0 + 5, undefined, 1],
        );
        for (const id of ['alive-starting', 'elsewhere'])
          assert.equal((await findSandbox(db, EVERY_TEAM, id))?.state, 'starting', id);
      }));

    test('a server whose work another one has settled changes nothing any more, also in the same state', () =>
      withDb(async (db) => {
        await insertSandboxes(db, [record('a', { state: 'running' })]);
        const ready = { vcpuCount: 1, memoryMib: 1, diskMib: 1, envdVersion: '1' };
        const stale = await markPausing(db, 'a', true, 'stale');
        assert.ok(stale);
        assert.ok(await markFoundRunning(db, stale, T0));
        const now = await markPausing(db, 'a', true, 'other');
        assert.equal(await markPaused(db, stale, T0, true), undefined);
        assert.equal(await markFoundRunning(db, stale, T0), undefined);
        assert.equal(await deleteSandbox(db, 'a', stale.revision), false);
        assert.deepEqual(await findSandbox(db, EVERY_TEAM, 'a'), now);
        assert.ok(now && (await markPaused(db, now, T0, true)));

        const staleResume = await markResuming(db, 'a', 'stale');
        assert.ok(staleResume && (await markPaused(db, staleResume, T0, true)));
        const resuming = await markResuming(db, 'a', 'other');
        const life = { endAtMs: T0, timeoutSec: 1, autoPause: undefined };
        assert.equal(await markResumed(db, staleResume, ready, life), undefined);
        assert.deepEqual(await findSandbox(db, EVERY_TEAM, 'a'), resuming);
        await markStopping(db, 'a', T0);
        assert.equal((await findSandbox(db, EVERY_TEAM, 'a'))?.owner, undefined);
      }));

    test('what is due to be paused is its taker’s, and two that take at once get each sandbox once', () =>
      withDb(async (db) => {
        const ids = Array.from({ length: 30 }, (_, index) => `s${index}`);
        for (const id of ids)
          await insertSandboxes(db, [record(id, { state: 'running', endAtMs: T0, autoPause: true })]);
        const query = { state: 'running' as const, hostIds: ['host-1'], nowMs: T0, limit: 100 };
        const taken = await Promise.all(['one', 'two'].map((owner) => takeDue(db, query, T0 + 99, owner)));
        assert.equal(taken.flat().length, ids.length);
        assert.deepEqual(new Set(taken.flat().map(({ id }) => id)), new Set(ids));
        for (const [index, owner] of ['one', 'two'].entries())
          for (const { id } of taken[index] ?? []) assert.equal((await findSandbox(db, EVERY_TEAM, id))?.owner, owner);
      }));
  });
}
