import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { isProcessAlive, readProcessIdentity } from './process-identity.ts';

test('a process is recognised while it lives and not after', async () => {
  const child = spawn('sleep', ['60']);
  await once(child, 'spawn');
  const identity = readProcessIdentity(child.pid ?? 0);
  assert.ok(identity);
  assert.ok(isProcessAlive(identity));
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.equal(isProcessAlive(identity), false);
  assert.equal(readProcessIdentity(identity.pid), undefined);
});

test('a pid that belongs to another process now is not mistaken', () => {
  const identity = readProcessIdentity(process.pid);
  assert.ok(identity);
  assert.equal(isProcessAlive({ pid: process.pid, startTicks: identity.startTicks - 1 }), false);
});
