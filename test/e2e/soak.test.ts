import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { soak } from '../support/soak.ts';
import { vmsCannotRun } from '../support/state-folder.ts';
import { useServer } from '../support/suite.ts';

/** `npm run soak` does a thousand. */
const CYCLES = 30;

describe('pausing and resuming again and again', { skip: vmsCannotRun() }, () => {
  const inUse = useServer();

  test(`loses nothing of memory, disk, tmpfs, connections and time in ${CYCLES} cycles`, async () => {
    const report = await soak(inUse.server, inUse.paths, CYCLES);
    assert.equal(report.cycles, CYCLES);
    assert.equal(report.differences, 0);
    assert.ok(report.worstClockMs <= 50, `the guest's clock was ${report.worstClockMs.toFixed(1)} ms off`);
  });
});
