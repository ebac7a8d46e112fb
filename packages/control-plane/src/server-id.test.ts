import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { readProcessIdentity } from '@nestbox/kit';
import { isKnownDead, newServerId } from './server-id.ts';

/** As that process would be called if it were a server. */
function idOf(pid: number): string {
  const [bootId, namespace] = newServerId().split('.');
  return [bootId, namespace, pid, readProcessIdentity(pid)?.startTicks, 'ab'].join('.');
}

test('two servers in one process have different ids, and neither is dead', () => {
  const [one, two] = [newServerId(), newServerId()];
  assert.notEqual(one, two);
  assert.deepEqual([isKnownDead(one), isKnownDead(two)], [false, false]);
});

test('a server is known to be dead when its process has gone, and when another one has its pid', async () => {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  const exited = once(child, 'exit');
  const id = idOf(child.pid ?? 0);
  assert.equal(isKnownDead(id), false);
  child.kill('SIGKILL');
  await exited;
  assert.equal(isKnownDead(id), true);
  const [bootId, namespace, pid, startTicks] = newServerId().split('.');
  assert.equal(isKnownDead([bootId, namespace, pid, Number(startTicks) - 1, 'ab'].join('.')), true);
});

test('of a server on another machine, in another namespace, or of a form that says nothing, it is not known', () => {
  const [bootId = '', namespace] = newServerId().split('.');
  const gone = 2 ** 22 + 1;
  assert.equal(isKnownDead([bootId, namespace, gone, 1, 'ab'].join('.')), true);
  const otherBoot = (bootId.startsWith('0') ? '1' : '0') + bootId.slice(1);
  assert.equal(isKnownDead([otherBoot, namespace, gone, 1, 'ab'].join('.')), false);
  assert.equal(isKnownDead([bootId, 1, gone, 1, 'ab'].join('.')), false);
  assert.equal(isKnownDead('41b0c9a4-5f0f-4f8e-9a0e-0d6f3c1b2a11'), false);
});
