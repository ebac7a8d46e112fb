import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { acquireStateLock } from './state-lock.ts';
import { temporaryFolder } from './testing/temporary-state.ts';

const CONTENDER = join(import.meta.dirname, 'testing', 'lock-contender.ts');

interface Contender {
  readonly process: ChildProcess;
  /** `locked`, or the code of the error. */
  readonly outcome: string;
}

/** A process of its own that tries to get the lock and then keeps it, if it has it, until it is ended. */
async function contend(t: TestContext, lockDir: string): Promise<Contender> {
  const child = spawn(process.execPath, [CONTENDER, lockDir], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const [line] = await once(createInterface(child.stdout), 'line');
  return { process: child, outcome: String(line) };
}

async function kill(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

test('a second host agent is refused and told who has the folder', async (t) => {
  const lockDir = join(await temporaryFolder(t), 'lock');
  const first = await contend(t, lockDir);
  assert.equal(first.outcome, 'locked');
  await assert.rejects(acquireStateLock(lockDir), (error) => {
    assert.ok(error instanceof NestboxError);
    assert.equal(error.code, 'state_dir_in_use');
    assert.match(error.message, new RegExp(`process ${first.process.pid}\\b.*NESTBOX_DIR`));
    return true;
  });
});

test('the same process cannot have it twice', async (t) => {
  const lockDir = join(await temporaryFolder(t), 'lock');
  await using _lock = await acquireStateLock(lockDir);
  await assert.rejects(acquireStateLock(lockDir), { code: 'state_dir_in_use' });
});

test('a lock that was let go is free and leaves nothing behind', async (t) => {
  const folder = await temporaryFolder(t);
  const lockDir = join(folder, 'lock');
  const lock = await acquireStateLock(lockDir);
  await lock.release();
  await lock.release();
  assert.deepEqual(await readdir(folder), []);
  await (await acquireStateLock(lockDir)).release();
});

test('after kill -9 of the owner the folder is free at once', async (t) => {
  const lockDir = join(await temporaryFolder(t), 'lock');
  const first = await contend(t, lockDir);
  assert.equal(first.outcome, 'locked');
  await kill(first.process);
  await using _lock = await acquireStateLock(lockDir);
  assert.equal((await readdir(lockDir)).length, 1);
});

test('files of other boots, of reused pids and of strangers do not stand in the way', async (t) => {
  const lockDir = join(await temporaryFolder(t), 'lock');
  await mkdir(lockDir);
  const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  const otherBoot = `00000000-0000-0000-0000-000000000000.${process.ppid}.1`;
  const otherStart = `${bootId}.${process.ppid}.1`;
  for (const name of [otherBoot, otherStart, 'README']) await writeFile(join(lockDir, name), '');
  const lock = await acquireStateLock(lockDir);
  const names = await readdir(lockDir);
  assert.ok(!names.includes(otherBoot) && !names.includes(otherStart));
  assert.ok(names.includes('README'));
  await lock.release();
});

test('of many that want a dead owner’s folder at once exactly one gets it', async (t) => {
  const lockDir = join(await temporaryFolder(t), 'lock');
  await kill((await contend(t, lockDir)).process);
  const outcomes = (await Promise.all(Array.from({ length: 6 }, () => contend(t, lockDir)))).map(
    ({ outcome }) => outcome,
  );
  assert.equal(outcomes.filter((outcome) => outcome === 'locked').length, 1);
  assert.equal(outcomes.filter((outcome) => outcome === 'state_dir_in_use').length, 5);
});
