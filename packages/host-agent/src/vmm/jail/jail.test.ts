import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmod, chown, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { endProcess } from '../end-process.ts';
import { type Launch, launchDetached } from '../launch.ts';
import { type Jail, sameMount } from './jail.ts';

const USER_ID = 1_879_048_192;

/** A program in place of a VMM that has been taken over: it tries what the jail is to refuse, and prints what came of it. */
const INTRUDER = `
const fs = require('node:fs');
const [folder, outside, hostSocket, hostPid] = process.argv.slice(2);
const attempts = {
  'its own disk': () => { fs.writeFileSync(folder + '/top', 'mine'); },
  'a shared file, to read': () => { fs.readFileSync(folder + '/memory'); },
  'a shared file, to write': () => { fs.openSync(folder + '/memory', 'r+'); },
  'the mode of a shared file': () => { fs.chmodSync(folder + '/memory', 0o666); },
  'a new name in its folder': () => { fs.writeFileSync(folder + '/new', ''); },
  'taking its disk away': () => { fs.unlinkSync(folder + '/top'); },
  'a saved state in its folder': () => { fs.readdirSync(folder + '/pause'); },
  'a folder beside its own': () => { fs.readdirSync(outside); },
  'passwords': () => { fs.readFileSync('/etc/shadow'); },
  'processes': () => { fs.readdirSync('/proc'); },
  'a process of the host': () => { process.kill(Number(hostPid), 0); },
  'its root': () => { fs.writeFileSync('/x', ''); },
  'libraries': () => { fs.writeFileSync('/usr/lib/x', ''); },
  'devices': () => { fs.openSync('/dev/mem', 'r'); },
  'KVM': () => { fs.openSync('/dev/kvm', 'r+'); },
  'TAPs': () => { fs.openSync('/dev/net/tun', 'r+'); },
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
outcome['its root holds'] = fs.readdirSync('/').sort().join(' ');
outcome['its variables'] = Object.keys(process.env).join(' ');
require('node:net').connect(hostSocket).on('error', (error) => {
  outcome["the host's sockets"] = error.code;
  console.log(JSON.stringify(outcome));
});
`;

async function makeFolder(t: TestContext): Promise<string> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'nestbox-jail-')));
  t.after(() => rm(folder, { recursive: true }));
  return folder;
}

async function launch(t: TestContext, overrides: Partial<Launch> & Pick<Launch, 'command' | 'jail'>) {
  const log = join(await makeFolder(t), 'log');
  const launched = await launchDetached({
    cgroup: undefined,
    netnsName: undefined,
    logPath: log,
    env: {},
    ...overrides,
  });
  t.after(() => endProcess(launched.identity, { graceMs: 0 }));
  return { ...launched, log };
}

const EMPTY_JAIL: Jail = { userId: USER_ID, groupIds: [], mounts: [], devices: [] };

async function exitOf<T>(exited: Promise<T>): Promise<T> {
  const alive = setInterval(() => undefined, 1000);
  return exited.finally(() => clearInterval(alive));
}

test('a program that was taken over has its own disk, and nothing else of the host', async (t) => {
  const folder = await makeFolder(t);
  await chmod(folder, 0o711);
  const outside = await makeFolder(t);
  await chmod(outside, 0o777);
  await writeFile(join(folder, 'memory'), 'shared', { mode: 0o444 });
  await writeFile(join(folder, 'top'), 'own', { mode: 0o600 });
  await chown(join(folder, 'top'), USER_ID, USER_ID);
  await mkdir(join(folder, 'pause'), { mode: 0o700 });
  const script = join(outside, 'intruder.cjs');
  await writeFile(script, INTRUDER, { mode: 0o644 });
  const socket = join(outside, 'sock');
  const server = createServer().listen(socket);
  await once(server, 'listening');
  t.after(() => server.close());

  const node = await realpath(process.execPath);
  const program = { hostPath: node, jailPath: '/program', writable: false };
  const code = { hostPath: script, jailPath: '/script.cjs', writable: false };
  const { exited, log } = await launch(t, {
    command: ['/program', '/script.cjs', folder, outside, socket, String(process.pid)],
    jail: { ...EMPTY_JAIL, mounts: [program, code, sameMount(folder, true)] },
    env: { GIVEN: '1' },
  });
  assert.deepEqual(await exitOf(exited), { exitCode: 0, signal: undefined }, await readFile(log, 'utf8'));
  assert.deepEqual(JSON.parse(await readFile(log, 'utf8')), {
    'its own disk': 'done',
    'a shared file, to read': 'done',
    'a shared file, to write': 'EACCES',
    'the mode of a shared file': 'EPERM',
    'a new name in its folder': 'EACCES',
    'taking its disk away': 'EACCES',
    'a saved state in its folder': 'EACCES',
    'a folder beside its own': 'ENOENT',
    passwords: 'ENOENT',
    processes: 'ENOENT',
    'a process of the host': 'ESRCH',
    'its root': 'EROFS',
    libraries: 'EROFS',
    devices: 'ENOENT',
    KVM: 'ENOENT',
    TAPs: 'ENOENT',
    'being root': 'EPERM',
    'a shell': 'ENOENT',
    'its pid': 1,
    'its root holds': `dev lib lib64 program script.cjs ${folder.split('/')[1]} usr`,
    'its variables': 'GIVEN PWD',
    "the host's sockets": 'ENOENT',
  });
  assert.equal(await readFile(join(folder, 'memory'), 'utf8'), 'shared');
});

test('the identity is that of the program, which has no privilege, and its end is told as it was', async (t) => {
  const sleep = sameMount('/usr/bin/sleep');
  const jail = { ...EMPTY_JAIL, mounts: [sleep] };
  const { identity, exited } = await launch(t, { command: ['/usr/bin/sleep', '1000'], jail });
  let name = '';
  while (name !== 'sleep') name = (await readFile(`/proc/${identity.pid}/comm`, 'utf8')).trim();
  const status = await readFile(`/proc/${identity.pid}/status`, 'utf8');
  assert.match(status, new RegExp(`^Uid:\\t${USER_ID}\\t${USER_ID}\\t${USER_ID}\\t${USER_ID}$`, 'm'));
  assert.match(status, new RegExp(`^Gid:\\t${USER_ID}\\t${USER_ID}\\t${USER_ID}\\t${USER_ID}$`, 'm'));
  assert.match(status, /^Groups:\s*$/m);
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
    assert.match(status, new RegExp(`^${set}:\\t0+$`, 'm'));
  assert.match(status, /^NoNewPrivs:\t1$/m);
  await endProcess(identity, { graceMs: 0 });
  assert.deepEqual(await exitOf(exited), { exitCode: undefined, signal: 'SIGKILL' });
});

test('a jail that cannot be made ends at once, and the log says why', async (t) => {
  const jail = { ...EMPTY_JAIL, mounts: [sameMount('/nonexistent/file')] };
  const { exited, log } = await launch(t, { command: ['/usr/bin/sleep', '1000'], jail });
  assert.deepEqual(await exitOf(exited), { exitCode: 1, signal: undefined });
  assert.match(await readFile(log, 'utf8'), /nonexistent/);
});
