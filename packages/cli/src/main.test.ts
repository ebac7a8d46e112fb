import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { test } from 'node:test';
import { outcomeOf, spawnNestbox } from '../../../test/support/nestbox-command.ts';

test('output that is lost is a failure, and one that nobody wants any more is none', async () => {
  await using full = await open('/dev/full', 'w');
  const lost = await outcomeOf(spawnNestbox(['version'], {}, { stdio: ['ignore', full.fd, 'pipe'] }));
  assert.equal(lost.exitCode, 1);
  assert.match(lost.stderr, /^nestbox: The output could not be written: ENOSPC.* \[output_failed\]\n$/);

  const child = spawnNestbox(['version'], {}, { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout?.destroy();
  const unwanted = await outcomeOf(child);
  assert.deepEqual([unwanted.exitCode, unwanted.stderr], [0, '']);
});
