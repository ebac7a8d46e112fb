import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { acquireSetupLock } from './setup-lock.ts';
import { temporaryFolder } from './testing/temporary-folder.ts';

test('a second set-up is told that one is running, and gets its turn afterwards', async (t) => {
  const path = join(await temporaryFolder(t), 'setup.lock');
  {
    await using _held = await acquireSetupLock(path);
    await assert.rejects(acquireSetupLock(path), { name: 'NestboxError', code: 'conflict' });
  }
  await using _second = await acquireSetupLock(path);
});

test('of many that come at once one gets the lock', async (t) => {
  const path = join(await temporaryFolder(t), 'setup.lock');
  const results = await Promise.allSettled(Array.from({ length: 8 }, () => acquireSetupLock(path)));
  const held = results.filter((result) => result.status === 'fulfilled');
  for (const { value } of held) await value[Symbol.asyncDispose]();
  assert.equal(held.length, 1);
});

test('the lock of a killed process is free', async (t) => {
  const path = join(await temporaryFolder(t), 'setup.lock');
  const script = `
    import { acquireSetupLock } from ${JSON.stringify(import.meta.resolve('./setup-lock.ts'))};
    await acquireSetupLock(${JSON.stringify(path)});
    console.log('held');
    setInterval(() => {}, 1000);`;
  const holder = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => holder.kill('SIGKILL'));
  await once(holder.stdout, 'data');
  await assert.rejects(acquireSetupLock(path), { code: 'conflict' });
  const gone = once(holder, 'close');
  holder.kill('SIGKILL');
  await gone;
  await using _lock = await acquireWhenFree(path);
});

/** The kernel frees the lock when the last process that has the file open is gone, which is just after the kill. */
async function acquireWhenFree(path: string): Promise<AsyncDisposable> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await acquireSetupLock(path);
    } catch (error) {
      if (attempt === 100) throw error;
    }
  }
}

test('a lock file that cannot be made is an error, not a conflict', async () => {
  await assert.rejects(acquireSetupLock('/proc/no/such/folder/lock'), { name: 'NestboxError', code: 'internal' });
});
