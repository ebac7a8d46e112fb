import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { vmsCannotRun } from '../support/state-folder.ts';
import { RandomWalk } from '../support/walk/random-walk.ts';
import { readWalkSettings } from '../support/walk/seeded-random.ts';
import { startVmStage } from '../support/walk/vm-stage.ts';

/** `NESTBOX_WALK_SEED` and `NESTBOX_WALK_STEPS` change what is walked; test/states has a longer one without VMs. */
const STEPS = 18;

describe('a random walk with real VMs', { skip: vmsCannotRun() }, () => {
  test('finds every answer, state and content as it has to be, over ends of the server too', async (t) => {
    const { seed, steps } = readWalkSettings(STEPS);
    t.diagnostic(`NESTBOX_WALK_SEED=${seed}`);
    await using stage = await startVmStage();
    const walk = new RandomWalk({
      stage,
      seed,
      endShare: 0.08,
      interruptedAfterMs: 1500,
      limits: { sandboxes: 2, copies: 2 },
    });
    await walk.walk(steps);
    await walk.finish();
    await stage.end('SIGTERM');
    assert.deepEqual(await stage.leftovers(), []);
  });
});
