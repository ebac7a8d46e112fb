import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { OutputClosed } from './client/standard-streams.ts';
import { asNotTheCommand, describeFailure } from './failure.ts';
import { Interruption } from './interruption.ts';

test('what a signal has broken off ends as by that signal, with its own words', async () => {
  const cause = new Interruption('SIGTERM');
  const brokenOff = new NestboxError('deadline_exceeded', 'The set-up was interrupted.', { cause });
  const expected = { code: 'interrupted', message: 'The set-up was interrupted.', exitCode: 143 };
  assert.deepEqual(describeFailure(brokenOff), expected);
  assert.deepEqual(describeFailure(cause), { ...expected, message: 'interrupted by SIGTERM' });
  const rethrown = await asNotTheCommand(Promise.reject(brokenOff)).catch((error: unknown) => error);
  assert.deepEqual(describeFailure(rethrown), expected);
});

test('output that nobody reads any more ends without a word, output that was lost with one', () => {
  const closed = (code: string) =>
    new OutputClosed('closed', { cause: Object.assign(new Error(`${code}: x`), { code }) });
  assert.deepEqual(describeFailure(closed('EPIPE')), { code: 'output_closed', message: '', exitCode: 141 });
  assert.deepEqual(describeFailure(closed('ENOSPC')), {
    code: 'output_failed',
    message: 'The output could not be written: ENOSPC: x',
    exitCode: 125,
  });
});
