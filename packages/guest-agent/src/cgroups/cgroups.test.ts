import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { MS_NOSUID, mount, unmount } from '../system/mount.ts';
import { Freezer } from './freezer.ts';
import { GuestCgroups } from './guest-cgroups.ts';

const skip = process.getuid?.() !== 0 && 'needs root';
const GIB = 1024 * 1024 * 1024;

/** A group of its own in the machine's version 2 hierarchy, gone after the test. */
async function privateGroup(cleanup: AsyncDisposableStack): Promise<string> {
  const mountPoint = await mkdtemp(join(tmpdir(), 'nestbox-cgroup-'));
  cleanup.defer(() => rm(mountPoint, { recursive: true, force: true, maxRetries: 2 }));
  mount('cgroup2', mountPoint, 'cgroup2', MS_NOSUID);
  cleanup.defer(() => unmount(mountPoint));
  const group = join(mountPoint, `nestbox-test-${process.pid}-${Date.now()}`);
  await mkdir(group);
  cleanup.defer(async () => {
    for (const entry of await readdir(group, { withFileTypes: true })) {
      if (entry.isDirectory()) await rmdir(join(group, entry.name));
    }
    await rmdir(group);
  });
  return group;
}

/** A process in the group `user`, ended and gone with the test. */
async function sleeper(cleanup: AsyncDisposableStack, cgroups: GuestCgroups): Promise<number> {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
  cleanup.defer(async () => {
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  await once(child, 'spawn');
  const pid = child.pid ?? 0;
  cgroups.place(pid, 'user');
  return pid;
}

test('processes are placed, frozen and let go in real control groups', { skip }, async () => {
  await using cleanup = new AsyncDisposableStack();
  const root = await privateGroup(cleanup);
  const cgroups = new GuestCgroups(root, 4 * GIB);
  const pid = await sleeper(cleanup, cgroups);
  assert.match(await readFile(`/proc/${pid}/cgroup`, 'utf8'), /^0::.*\/user$/m);
  const freezer = new Freezer(root);
  const {
    sweepMs: _sweep,
    waitMs: _wait,
    ...result
  } = await freezer.freeze({
    mode: 'legacy',
    maxWaitMs: 5000,
    maxCgroups: 512,
  });
  assert.deepEqual(result, {
    mode: 'legacy',
    visited: 2,
    allowlisted: 0,
    truncated: false,
    preFrozen: 0,
    requested: 2,
    frozen: 2,
    notFrozen: 0,
    failed: 0,
    unobservable: 0,
  });
  assert.match(await readFile(join(root, 'user', 'cgroup.events'), 'utf8'), /^frozen 1$/m);
  const again = await freezer.freeze({ mode: 'hierarchy', maxWaitMs: 5000, maxCgroups: 512 });
  assert.deepEqual([again.visited, again.allowlisted, again.preFrozen, again.frozen], [3, 1, 2, 2]);
  freezer.thaw();
  assert.match(await readFile(join(root, 'user', 'cgroup.freeze'), 'utf8'), /^0$/m);
});

test('a hierarchy with more groups than allowed is frozen in part, and said to be', { skip }, async () => {
  await using cleanup = new AsyncDisposableStack();
  const root = await privateGroup(cleanup);
  new GuestCgroups(root, 4 * GIB);
  const freezer = new Freezer(root);
  const result = await freezer.freeze({ mode: 'hierarchy', maxWaitMs: 5000, maxCgroups: 1 });
  assert.deepEqual([result.visited, result.truncated], [1, true]);
  freezer.thaw();
});

test('groups that cannot be frozen are counted as failed, and thawing says so', async () => {
  const freezer = new Freezer('/nonexistent');
  const result = await freezer.freeze({ mode: 'legacy', maxWaitMs: 0, maxCgroups: 512 });
  assert.deepEqual([result.requested, result.failed, result.frozen], [2, 2, 0]);
  assert.throws(() => freezer.thaw(), /ENOENT/);
});
