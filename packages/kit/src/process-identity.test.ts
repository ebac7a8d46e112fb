import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { isProcessAlive, parseProcessStat, readProcessIdentity } from './process-identity.ts';

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

test('a process is gone when the last of its threads is, not when the first one is', () => {
  const stat = (state: string, threads: number) =>
    `7 (a (odd) name) ${state} 1 7 7 0 -1 4194560 1 0 0 0 3 2 0 0 20 0 ${threads} 0 4242 0 0 0`;
  const identity = { pid: 7, startTicks: 4242 };
  assert.deepEqual(parseProcessStat(7, stat('S', 1)), identity);
  assert.deepEqual(parseProcessStat(7, stat('Z', 3)), identity);
  assert.equal(parseProcessStat(7, stat('Z', 1)), undefined);
  assert.equal(parseProcessStat(7, stat('X', 0)), undefined);
  assert.equal(parseProcessStat(7, ''), undefined);
});
