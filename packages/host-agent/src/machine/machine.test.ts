import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileSystemsOf } from './file-systems.ts';
import { parseMemoryUse } from './memory-use.ts';
import { mountOf, parseMounts } from './mounts.ts';
import { parseProcessor } from './processor.ts';
import { ProcessorUse, parseProcessorTime, percentBusy } from './processor-use.ts';
import { findSourceCommit } from './source-commit.ts';

test('the processor is the first one of the list, and what the kernel does not say is empty', () => {
  const cpuinfo = `processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 167
model name\t: Intel(R) Xeon(R) E: 2388G
flags\t\t: fpu vme

processor\t: 1
cpu family\t: 7
`;
  assert.deepEqual(parseProcessor(cpuinfo, 'x86_64'), {
    family: '6',
    model: '167',
    modelName: 'Intel(R) Xeon(R) E: 2388G',
    architecture: 'x86_64',
  });
  assert.deepEqual(parseProcessor('processor : 0\nCPU implementer : 0x41\n', 'aarch64'), {
    family: '',
    model: '',
    modelName: '',
    architecture: 'aarch64',
  });
});

test('memory is told in bytes, huge pages by their number', () => {
  const meminfo = `MemTotal:       1000 kB
MemFree:         100 kB
MemAvailable:    400 kB
HugePages_Total:      10
HugePages_Free:        7
HugePages_Rsvd:        2
Hugepagesize:       2048 kB
`;
  assert.deepEqual(parseMemoryUse(meminfo), {
    totalBytes: 1000 * 1024,
    usedBytes: 600 * 1024,
    hugePagesTotal: 10,
    hugePagesUsed: 3,
    hugePagesReserved: 2,
    hugePageSizeBytes: 2 * 2 ** 20,
  });
  assert.equal(parseMemoryUse('').totalBytes, 0);
});

test('time is busy but for idling and waiting, and guests are not counted twice', () => {
  const stat = 'cpu  100 10 40 700 50 3 2 5 60 7\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 1\n';
  assert.deepEqual(parseProcessorTime(stat), { busy: 160, total: 910 });
  assert.equal(parseProcessorTime('intr 1\n'), undefined);
  assert.equal(percentBusy({ busy: 100, total: 1000 }, { busy: 125, total: 1100 }), 25);
  assert.equal(percentBusy({ busy: 100, total: 1000 }, { busy: 99, total: 1001 }), 0);
  assert.equal(percentBusy({ busy: 1, total: 1000 }, { busy: 1, total: 1000 }), undefined);
});

test('the use of the processors is that since the question before', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let nowMs = 0;
  t.mock.method(performance, 'now', () => nowMs);
  const times = [
    { busy: 0, total: 0 },
    { busy: 90, total: 100 },
    { busy: 100, total: 200 },
  ];
  let last = { busy: 0, total: 0 };
  const use = await ProcessorUse.begin(async () => {
    last = times.shift() ?? last;
    return last;
  });
  nowMs = 2000;
  assert.equal(await use.percent(), 90);
  nowMs = 2500;
  assert.equal(await use.percent(), 90, 'nothing new in half a second');
  assert.equal(times.length, 1);
  nowMs = 4000;
  assert.equal(await use.percent(), 10);
  assert.equal(await (await ProcessorUse.begin(async () => undefined)).percent(), 0);
});

test('a folder is on the innermost file system, and of two on one place on the later', () => {
  const mounts = parseMounts(
    [
      '27 1 254:0 / / rw shared:1 - ext4 /dev/vda1 rw',
      '28 27 0:40 / /run rw - tmpfs tmpfs rw,size=1k',
      '29 27 254:16 / /var/lib/nest\\040box rw - xfs /dev/mapper/a\\040b rw',
      '30 27 254:32 / /var/lib/nest\\040box rw - btrfs /dev/vdc rw',
      '',
    ].join('\n'),
  );
  assert.equal(mountOf(mounts, '/var/lib/nest box/cache')?.type, 'btrfs');
  assert.equal(mountOf(mounts, '/var/lib/nest boxes')?.device, '/dev/vda1');
  assert.equal(mountOf(mounts, '/run')?.type, 'tmpfs');
  assert.equal(mounts[2]?.device, '/dev/mapper/a b');
});

test('file systems are told once, with their sizes', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-machine-'));
  t.after(() => rm(folder, { recursive: true }));
  const [own, ...others] = await fileSystemsOf([folder, join(folder, 'missing'), folder, '/proc']);
  assert.ok(own !== undefined && folder.startsWith(own.mountPoint));
  assert.ok(own.totalBytes > 0 && own.usedBytes <= own.totalBytes);
  assert.deepEqual(
    others.map(({ mountPoint, type, totalBytes }) => [mountPoint, type, totalBytes]),
    [['/proc', 'proc', 0]],
  );
});

test('the commit of a checkout is found wherever Git has written it', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'nestbox-machine-'));
  t.after(() => rm(root, { recursive: true }));
  const commits = [1, 2, 3, 4].map((digit) => String(digit).repeat(40));
  const [loose = '', packed = '', detached = '', other = ''] = commits;
  const git = join(root, 'checkout', '.git');
  const inside = join(root, 'checkout', 'packages', 'a');
  for (const path of [join(git, 'refs/heads'), join(git, 'worktrees/w'), inside, join(root, 'tree')])
    await mkdir(path, { recursive: true });
  assert.equal(await findSourceCommit(join(root, 'tree')), undefined);

  await writeFile(join(git, 'HEAD'), 'ref: refs/heads/main\n');
  await writeFile(join(git, 'packed-refs'), `# pack-refs\n${other} refs/heads/mai\n${packed} refs/heads/main\n`);
  assert.equal(await findSourceCommit(inside), packed);
  await writeFile(join(git, 'refs/heads/main'), `${loose}\n`);
  assert.equal(await findSourceCommit(inside), loose);
  await writeFile(join(git, 'HEAD'), `${detached}\n`);
  assert.equal(await findSourceCommit(inside), detached);
  await writeFile(join(git, 'HEAD'), 'ref: refs/heads/none\n');
  assert.equal(await findSourceCommit(inside), undefined);

  await writeFile(join(root, 'tree', '.git'), `gitdir: ../checkout/.git/worktrees/w\n`);
  await writeFile(join(git, 'worktrees/w/HEAD'), 'ref: refs/heads/main\n');
  await writeFile(join(git, 'worktrees/w/commondir'), '../..\n');
  assert.equal(await findSourceCommit(join(root, 'tree')), loose);
});
