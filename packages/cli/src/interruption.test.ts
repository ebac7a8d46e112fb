import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const MODULE = fileURLToPath(new URL('./interruption.ts', import.meta.url));

/** A process that is told to end, and takes its time over it. */
function start(afterwards: string) {
  const program = `
    import { InterruptGuard } from ${JSON.stringify(MODULE)};
    const guard = new InterruptGuard();
    guard.signal.addEventListener('abort', () => { console.log(guard.signal.reason.message); ${afterwards} });
    setInterval(() => {}, 1000);
    console.log('ready');`;
  return spawn(process.execPath, ['--input-type=module-typescript', '-e', program]);
}

test('the first signal aborts and leaves the ending to the program, also when one press arrives three times', async () => {
  const child = start('setTimeout(() => process.exit(42), 100)');
  await once(child.stdout, 'data');
  for (let times = 0; times < 3; times++) child.kill('SIGINT');
  const [said] = await once(child.stdout, 'data');
  assert.equal(String(said), 'interrupted by SIGINT\n');
  assert.deepEqual(await once(child, 'exit'), [42, null]);
});

test('a second press, some time later, ends the process at once', async () => {
  const child = start('setTimeout(() => console.log("later"), 600)');
  await once(child.stdout, 'data');
  child.kill('SIGTERM');
  await once(child.stdout, 'data');
  await once(child.stdout, 'data');
  child.kill('SIGINT');
  assert.deepEqual(await once(child, 'exit'), [130, null]);
});
