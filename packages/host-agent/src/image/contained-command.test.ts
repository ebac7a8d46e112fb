import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { runContained } from './contained-command.ts';
import { eventually, processesNamed, processesWith } from './testing/process-tree.ts';
import { temporaryFolder } from './testing/temporary-folder.ts';

const root = { skip: process.geteuid?.() !== 0 && 'needs root to make namespaces' };

/** Mounts something and leaves processes in the background: what mmdebstrap does when it is ended in the middle. */
function messyScript(folder: string): string {
  return `mount -t tmpfs none ${folder}
    (trap '' TERM INT HUP; exec -a ${folder}/background sleep 1000) &
    exec -a ${folder}/foreground sleep 1000`;
}

test('output and exit code are those of the command', root, async () => {
  const { stdout } = await runContained('sh', ['-c', 'echo hello']);
  assert.equal(stdout, 'hello\n');
  await assert.rejects(runContained('sh', ['-c', 'echo broken >&2; exit 3']), { exitCode: 3, stderr: 'broken\n' });
});

test('what the command mounts is not seen outside', root, async (t) => {
  const folder = await temporaryFolder(t);
  const script = `mount -t tmpfs none ${folder} && touch ${folder}/inside && grep -c ${folder} /proc/mounts`;
  const { stdout } = await runContained('sh', ['-c', script]);
  assert.equal(stdout.trim(), '1');
  assert.ok(!readFileSync('/proc/mounts', 'utf8').includes(folder));
});

test('processes that the command left are gone when it is', root, async (t) => {
  const folder = await temporaryFolder(t);
  await runContained('bash', ['-c', `(exec -a ${folder}/left sleep 1000) >/dev/null 2>&1 & exit 0`]);
  assert.deepEqual(processesWith(`${folder}/left`), []);
});

test('an abort ends everything that it started', root, async (t) => {
  const folder = await temporaryFolder(t);
  const abort = new AbortController();
  const running = runContained(
    'bash',
    ['-c', `(exec -a ${folder}/left sleep 1000) & echo started; exec -a ${folder}/main sleep 1000`],
    {
      signal: abort.signal,
      onOutput: () => abort.abort(),
    },
  );
  await assert.rejects(running, { name: 'CommandError' });
  await eventually(() => processesWith(folder).length === 0, 'no process left');
});

test('a kill -9 of our own process leaves no process and no mount', root, async (t) => {
  const folder = await temporaryFolder(t);
  await mkdir(join(folder, 'mnt'));
  const script = `
    import { runContained } from ${JSON.stringify(import.meta.resolve('./contained-command.ts'))};
    await runContained('bash', ['-c', ${JSON.stringify(messyScript(join(folder, 'mnt')))}]);`;
  const parent = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'ignore' });
  t.after(() => parent.kill('SIGKILL'));
  await eventually(() => processesNamed(`${folder}/mnt/background`).length > 0, 'the command runs');
  const gone = once(parent, 'close');
  parent.kill('SIGKILL');
  await gone;
  await eventually(() => processesWith(folder).length === 0, 'no process left');
  assert.ok(!readFileSync('/proc/mounts', 'utf8').includes(folder));
});
