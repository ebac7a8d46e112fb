import assert from 'node:assert/strict';
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { runCommand } from '@nestbox/kit';
import { endProcess } from '../end-process.ts';
import { launchDetached } from '../launch.ts';
import { writeStandInJailer } from '../testing/firecracker-bench.ts';
import { sameMount } from './jail.ts';

const USER_ID = 1_879_048_192;

/** A program in place of a Firecracker that has been taken over: it tries what the jail is to refuse, and prints what came of it. */
const INTRUDER = `
const fs = require('node:fs');
const [home, hostPid] = process.argv.slice(-2);
const attempts = {
  'its own disk': () => { fs.writeFileSync('/vm/rootfs', 'mine'); },
  'a shared file, to read': () => { fs.readFileSync('/vm/memory'); },
  'a shared file, to write': () => { fs.openSync('/vm/memory', 'r+'); },
  'the mode of a shared file': () => { fs.chmodSync('/vm/memory', 0o666); },
  'the folder of the machine': () => { fs.readdirSync(home); },
  'passwords': () => { fs.readFileSync('/etc/shadow'); },
  'processes': () => { fs.readdirSync('/proc'); },
  'a process of the host': () => { process.kill(Number(hostPid), 0); },
  'another device': () => { fs.openSync('/dev/zero', 'r'); },
  'being root': () => { process.setuid(0); },
  'a shell': () => {
    const { error } = require('node:child_process').spawnSync('/bin/sh', ['-c', 'true']);
    if (error) throw error;
  },
};
const outcome = {};
for (const [name, attempt] of Object.entries(attempts)) {
  try { attempt(); outcome[name] = 'done'; } catch (error) { outcome[name] = error.code; }
}
outcome['its pid'] = process.pid;
outcome['its devices'] = fs.readdirSync('/dev').sort().join(' ');
console.log(JSON.stringify(outcome));
if (process.argv.includes('stay')) setInterval(() => undefined, 1000);
`;

async function stage(t: TestContext, more: readonly string[]) {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'nestbox-jailer-')));
  t.after(() => rm(folder, { recursive: true }));
  await chmod(folder, 0o711);
  const path = (name: string) => join(folder, name);
  const node = await realpath(process.execPath);
  await writeFile(path('firecracker'), `#!${node}\n${INTRUDER}`, { mode: 0o755 });
  await writeFile(path('rootfs'), 'own', { mode: 0o600 });
  await chown(path('rootfs'), USER_ID, USER_ID);
  await writeFile(path('memory'), 'shared', { mode: 0o444 });
  await mkdir(path('base'));
  const launched = await launchDetached({
    command: [path('firecracker'), ...more, folder, String(process.pid)],
    jail: {
      userId: USER_ID,
      groupIds: [],
      mounts: [
        ...[node, '/lib', '/lib64', '/usr/lib'].map((library) => sameMount(library)),
        { hostPath: path('rootfs'), jailPath: '/vm/rootfs', writable: true },
        { hostPath: path('memory'), jailPath: '/vm/memory', writable: false },
      ],
      devices: [],
      jailer: { path: writeStandInJailer(folder), id: 'intruder', baseDir: path('base') },
    },
    cgroup: undefined,
    netnsName: undefined,
    logPath: path('log'),
    env: {},
  });
  t.after(() => endProcess(launched.identity, { graceMs: 0 }));
  return { ...launched, path };
}

async function exitOf<T>(exited: Promise<T>): Promise<T> {
  const alive = setInterval(() => undefined, 1000);
  return exited.finally(() => clearInterval(alive));
}

test("a Firecracker that was taken over in its jailer's jail has its own disk, and nothing else of the host", async (t) => {
  const { exited, path } = await stage(t, []);
  assert.deepEqual(await exitOf(exited), { exitCode: 0, signal: undefined }, await readFile(path('log'), 'utf8'));
  assert.deepEqual(JSON.parse(await readFile(path('log'), 'utf8')), {
    'its own disk': 'done',
    'a shared file, to read': 'done',
    'a shared file, to write': 'EACCES',
    'the mode of a shared file': 'EROFS',
    'the folder of the machine': 'ENOENT',
    passwords: 'ENOENT',
    processes: 'ENOENT',
    'a process of the host': 'ESRCH',
    'another device': 'ENOENT',
    'being root': 'EPERM',
    'a shell': 'ENOENT',
    'its pid': 1,
    'its devices': 'kvm net',
  });
  assert.equal(await readFile(path('rootfs'), 'utf8'), 'mine');
});

test('it has no capability and no way to new privileges; killed, it leaves no mount and no file', async (t) => {
  const { identity, exited, path } = await stage(t, ['stay']);
  while ((await readFile(path('log'), 'utf8')) === '') await new Promise((done) => setTimeout(done, 10));
  const status = await readFile(`/proc/${identity.pid}/status`, 'utf8');
  assert.match(status, new RegExp(`^Uid:\\t${USER_ID}\\t${USER_ID}\\t${USER_ID}\\t${USER_ID}$`, 'm'));
  assert.match(status, new RegExp(`^Gid:\\t${USER_ID}\\t${USER_ID}\\t${USER_ID}\\t${USER_ID}$`, 'm'));
  assert.match(status, /^Groups:\s*$/m);
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb']) assert.match(status, new RegExp(`^${set}:\\t0+$`, 'm'));
  assert.match(status, /^NoNewPrivs:\t1$/m);
  await runCommand('kill', ['-KILL', String(identity.pid)]);
  assert.deepEqual(await exitOf(exited), { exitCode: undefined, signal: 'SIGKILL' });
  assert.ok(!(await readFile('/proc/self/mountinfo', 'utf8')).includes(path('base')));
  assert.deepEqual(await readdir(path('base')), []);
});
