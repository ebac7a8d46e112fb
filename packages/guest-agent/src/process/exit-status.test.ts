import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeExitStatus } from '../system/wait.ts';
import { endEvent } from './exit-status.ts';

test('success has no error; failure repeats its status as one', () => {
  assert.deepEqual(endEvent(decodeExitStatus(0)), { exitCode: 0, exited: true, status: 'exit status 0' });
  assert.deepEqual(endEvent(decodeExitStatus(3 << 8)), {
    exitCode: 3,
    exited: true,
    status: 'exit status 3',
    error: 'exit status 3',
  });
});

test('a signal is exit code -1 and named as Go names it', () => {
  const status = (word: number) => endEvent(decodeExitStatus(word));
  assert.deepEqual(status(9), { exitCode: -1, exited: false, status: 'signal: killed', error: 'signal: killed' });
  assert.equal(status(15).status, 'signal: terminated');
  assert.equal(status(6 | 0x80).status, 'signal: aborted (core dumped)');
  assert.equal(status(34).status, 'signal: signal 34');
});
