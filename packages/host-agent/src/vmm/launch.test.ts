import assert from 'node:assert/strict';
import { mkdtemp, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import { isProcessAlive, readProcessIdentity } from '@nestbox/kit';
import { endProcess } from './end-process.ts';
import { type Launch, launchDetached } from './launch.ts';
import { readProcessWords, readSessionId } from './processes.ts';

async function launch(t: TestContext, overrides: Partial<Launch>) {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-launch-'));
  t.after(() => rm(folder, { recursive: true }));
  const logPath = join(folder, 'log');
  const env = { PATH: process.env.PATH ?? '' };
  const launched = await launchDetached({
    command: ['true'],
    cgroup: undefined,
    netnsName: undefined,
    jail: undefined,
    logPath,
    env,
    ...overrides,
  });
  t.after(() => endProcess(launched.identity, { graceMs: 0, group: true }));
  return { ...launched, folder, logPath };
}

/** `exited` alone does not keep the event loop alive. */
async function exitOf(exited: Promise<unknown>): Promise<unknown> {
  const alive = setInterval(() => undefined, 1000);
  return exited.finally(() => clearInterval(alive));
}

test('arguments arrive as they are, whatever is in them', async (t) => {
  const words = ['a b', '$HOME', '"', "'", '*', '--', '', 'é\n', '`id`'];
  const { exited, logPath } = await launch(t, { command: ['printf', '%s|', ...words] });
  assert.deepEqual(await exitOf(exited), { exitCode: 0, signal: undefined });
  assert.equal(await readFile(logPath, 'utf8'), words.map((word) => `${word}|`).join(''));
});

test('the pid is that of the program, which leads a session, sits in / and has our environment only', async (t) => {
  const { identity } = await launch(t, { command: ['sleep', '1000'], env: { PATH: process.env.PATH ?? '', A: 'b' } });
  let words = await readProcessWords(identity.pid, 'cmdline');
  while (words?.[0] !== 'sleep') words = await readProcessWords(identity.pid, 'cmdline');
  assert.deepEqual(readProcessIdentity(identity.pid), identity);
  assert.equal(readSessionId(identity.pid), identity.pid);
  assert.equal(await readlink(`/proc/${identity.pid}/cwd`), '/');
  const environment = await readProcessWords(identity.pid, 'environ');
  assert.deepEqual(
    environment
      ?.map((word) => word.split('=')[0])
      .filter((name) => !['PWD', 'OLDPWD', 'SHLVL', '_'].includes(name ?? ''))
      .toSorted(),
    ['A', 'PATH'],
  );
});

test('the process is in its cgroup when the launch is done', async (t) => {
  const admitted: number[] = [];
  const cgroup = {
    async admit(pid: number) {
      await delay(20);
      admitted.push(pid);
    },
  };
  const { identity } = await launch(t, { command: ['sleep', '1000'], cgroup });
  assert.deepEqual(admitted, [identity.pid]);
});

test('a cgroup that cannot be entered ends the program', async (t) => {
  let pid = 0;
  const cgroup = {
    async admit(child: number) {
      pid = child;
      throw new NestboxError('internal', 'no room');
    },
  };
  await assert.rejects(launch(t, { command: ['sleep', '1000'], cgroup }), /no room/);
  assert.equal(readProcessIdentity(pid), undefined);
});

test('a program that is not there is said so', async (t) => {
  await assert.rejects(
    launch(t, { command: ['nestbox-no-such-program'] }),
    (error) =>
      error instanceof NestboxError && error.code === 'not_set_up' && /nestbox-no-such-program/.test(error.message),
  );
});

test('ending a process: SIGTERM first, SIGKILL after the grace, and nothing for a pid that is somebody else’s', async (t) => {
  const polite = await launch(t, { command: ['sleep', '1000'] });
  await endProcess(polite.identity, { graceMs: 20_000 });
  assert.deepEqual(await exitOf(polite.exited), { exitCode: undefined, signal: 'SIGTERM' });
  await endProcess(polite.identity, { graceMs: 20_000 });

  const folder = await mkdtemp(join(tmpdir(), 'nestbox-deaf-'));
  t.after(() => rm(folder, { recursive: true }));
  const ready = join(folder, 'ready');
  await writeFile(ready, '');
  const deaf = await launch(t, {
    command: ['sh', '-c', `trap '' TERM; echo 1 >"$1"; while :; do sleep 0.1; done`, 'x', ready],
  });
  while ((await readFile(ready, 'utf8')) === '') await new Promise((done) => setImmediate(done));
  const stranger = { ...deaf.identity, startTicks: deaf.identity.startTicks + 1 };
  await endProcess(stranger, { graceMs: 0 });
  assert.ok(isProcessAlive(deaf.identity));
  await endProcess(deaf.identity, { graceMs: 50 });
  assert.deepEqual(await exitOf(deaf.exited), { exitCode: undefined, signal: 'SIGKILL' });
});
