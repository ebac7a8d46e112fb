import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { endProcess } from '../end-process.ts';
import { launchDetached } from '../launch.ts';
import { CgroupTree, cgroupSupport } from './cgroup.ts';

const LIMITS = { memoryBytes: 64 * 2 ** 20, cpuCount: 2, pidCount: 20 };

/** Folders that look like a v2 hierarchy. The files are ordinary ones: what is written into them can be read back. */
async function fakeV2(t: TestContext, options: { controllers: string; own?: string }) {
  const mount = await mkdtemp(join(tmpdir(), 'nestbox-cgroup2-'));
  t.after(() => rm(mount, { recursive: true }));
  for (const folder of ['', options.own ?? '']) {
    await mkdir(join(mount, folder), { recursive: true });
    await writeFile(join(mount, folder, 'cgroup.controllers'), options.controllers);
    await writeFile(join(mount, folder, 'cgroup.subtree_control'), '');
  }
  return {
    mount,
    environment: {
      mountinfo: `35 30 0:31 / ${mount} rw - cgroup2 cgroup2 rw`,
      procSelfCgroup: `0::/${options.own ?? ''}\n`,
    },
  };
}

test('on v2 the controllers are switched on down to the VM’s cgroup, which gets its limits', async (t) => {
  const { mount, environment } = await fakeV2(t, { controllers: 'cpuset cpu io memory pids' });
  const tree = await CgroupTree.open('ab12cd', environment);
  assert.equal(tree.support.version, 2);
  const cgroup = await tree.create('isandbox', LIMITS);
  assert.ok(cgroup);
  assert.equal(cgroup.path, 'nestbox-ab12cd/isandbox');
  assert.deepEqual(cgroup.procsFiles, [join(mount, 'nestbox-ab12cd/isandbox/cgroup.procs')]);
  for (const folder of ['', 'nestbox-ab12cd'])
    assert.equal(await readFile(join(mount, folder, 'cgroup.subtree_control'), 'utf8'), '+memory +cpu +pids');
  assert.equal(await readFile(join(mount, cgroup.path, 'cpu.max'), 'utf8'), '200000 100000');
  assert.deepEqual(await cgroup.readLimits(), LIMITS);
  assert.deepEqual(
    (await tree.list()).map(({ path }) => path),
    [cgroup.path],
  );
  assert.equal(await cgroup.wasOutOfMemory(), false);
  await writeFile(join(mount, cgroup.path, 'memory.events'), 'low 0\noom 1\noom_kill 1\noom_group_kill 0\n');
  assert.equal(await cgroup.wasOutOfMemory(), true);
});

test('a host without the controllers, or without cgroups, says so and bounds nothing', async (t) => {
  const { environment } = await fakeV2(t, { controllers: 'cpu io' });
  assert.match((await cgroupSupport(environment)).reason, /without the controllers memory, pids/);
  const nothing = { mountinfo: '', procSelfCgroup: '' };
  assert.match((await cgroupSupport(nothing)).reason, /no cgroup file system/);
  const tree = await CgroupTree.open('ab12cd', nothing);
  assert.equal(tree.support.version, undefined);
  assert.equal(await tree.create('isandbox', LIMITS), undefined);
  assert.deepEqual(await tree.list(), []);
});

test('looking for support changes nothing', async (t) => {
  const { mount, environment } = await fakeV2(t, { controllers: 'cpu memory pids' });
  assert.equal((await cgroupSupport(environment)).version, 2);
  assert.deepEqual((await readdir(mount)).toSorted(), ['cgroup.controllers', 'cgroup.subtree_control']);
});

test('a path that is not the sandbox’s own is never taken for its cgroup', async (t) => {
  const { environment } = await fakeV2(t, { controllers: 'cpu memory pids' });
  const tree = await CgroupTree.open('ab12cd', environment);
  for (const path of [
    '',
    '/',
    '..',
    'nestbox-ab12cd',
    'nestbox-ab12cd/other',
    '../nestbox-ab12cd/isandbox/..',
    'x-nestbox-ab12cd/isandbox',
    undefined,
  ])
    assert.equal(tree.find(path, 'isandbox'), undefined, path);
  assert.ok(tree.find('nestbox-ab12cd/isandbox', 'isandbox'));
  // Written down while the host agent ran elsewhere in the tree.
  assert.ok(tree.find('system.slice/nestbox.service/nestbox-ab12cd/isandbox', 'isandbox'));
});

/** A tree on this machine's real cgroups, under a name of its own. */
async function realTree(t: TestContext): Promise<CgroupTree | undefined> {
  const support = await cgroupSupport();
  if (support.version === undefined) {
    t.skip(support.reason);
    return undefined;
  }
  return CgroupTree.open(`t${process.pid.toString(36)}${Math.floor(Math.random() * 1e6).toString(36)}`);
}

test('the kernel takes the limits, and after the removal nothing is left', async (t) => {
  const tree = await realTree(t);
  if (tree === undefined) return;
  const [first, second] = await Promise.all([tree.create('a', LIMITS), tree.create('b', LIMITS)]);
  assert.ok(first && second);
  t.after(() => Promise.all([first.remove(), second.remove()]));
  assert.deepEqual(await first.readLimits(), LIMITS);
  const again = await tree.create('a', { ...LIMITS, pidCount: 30 });
  assert.equal((await again?.readLimits())?.pidCount, 30);
  assert.equal((await tree.list()).length, 2);
  await first.remove();
  await first.remove();
  await second.remove();
  assert.deepEqual(await tree.list(), []);
  for (const file of first.procsFiles) await assert.rejects(readdir(join(file, '../..')), { code: 'ENOENT' });
});

test('cgroups that come and go at once do not take each other’s family away', async (t) => {
  const tree = await realTree(t);
  if (tree === undefined) return;
  const once = async (name: string) => {
    for (let round = 0; round < 20; round++) await (await tree.create(name, LIMITS))?.remove();
  };
  await Promise.all(['a', 'b', 'c', 'd'].map(once));
  assert.deepEqual(await tree.list(), []);
});

test('a process that wants more memory than its limit is ended, and that can be told', async (t) => {
  const tree = await realTree(t);
  if (tree === undefined) return;
  const cgroup = await tree.create('greedy', LIMITS);
  assert.ok(cgroup);
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-greedy-'));
  await chmod(folder, 0o700);
  const { identity, exited } = await launchDetached({
    command: [process.execPath, '-e', 'for (const held = []; ; ) held.push(Buffer.alloc(1 << 20, 1))'],
    cgroup,
    netnsName: undefined,
    jail: undefined,
    logPath: join(folder, 'log'),
    env: {},
  });
  t.after(async () => {
    await endProcess(identity, { graceMs: 0 });
    await cgroup.remove();
    await rm(folder, { recursive: true });
  });
  const alive = setInterval(() => undefined, 1000);
  const exit = await exited.finally(() => clearInterval(alive));
  assert.equal(exit.signal, 'SIGKILL');
  assert.equal(await cgroup.wasOutOfMemory(), true);
});
