import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { startFakeStage } from '../support/walk/fake-stage.ts';
import { RandomWalk } from '../support/walk/random-walk.ts';
import { readWalkSettings } from '../support/walk/seeded-random.ts';

/** In all. `NESTBOX_WALK_SEED` and `NESTBOX_WALK_STEPS` change what is walked. */
const STEPS = 150;
const WALKERS = ['anna', 'bruno', 'clara'];

describe('a random walk through everything that can be done with sandboxes', () => {
  test('finds every answer, state and content as it has to be, over ends of the server too', async (t) => {
    const { seed, steps } = readWalkSettings(STEPS);
    t.diagnostic(`NESTBOX_WALK_SEED=${seed}`);
    const stage = await startFakeStage(t);
    const walk = new RandomWalk({ stage, seed });
    await walk.walk(steps);
    await walk.finish();
    await stage.end('SIGTERM');
    assert.deepEqual(await stage.leftovers(), []);
  });

  test('does so for three at once, each with sandboxes of its own', async (t) => {
    const { seed, steps } = readWalkSettings(STEPS);
    t.diagnostic(`NESTBOX_WALK_SEED=${seed}`);
    const stage = await startFakeStage(t);
    const walks = WALKERS.map((walker, index) => new RandomWalk({ stage, seed: seed + index, walker, isAlone: false }));
    for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
      await Promise.all(walks.map((walk) => walk.walk(Math.ceil(steps / 2 / WALKERS.length))));
      await stage.end(signal);
      await stage.start();
      await Promise.all(walks.map((walk) => walk.agree()));
    }
    await Promise.all(walks.map((walk) => walk.finish()));
    await stage.end('SIGTERM');
    assert.deepEqual(await stage.leftovers(), []);
  });
});
