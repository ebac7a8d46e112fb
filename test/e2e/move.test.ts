import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type NestboxPaths, runCommand } from '@nestbox/kit';
import { Sandbox } from 'e2b';
import { findLeftovers } from '../support/leftovers.ts';
import { runNestbox } from '../support/nestbox-command.ts';
import { startServer } from '../support/server.ts';
import { makeStateFolder, vmsCannotRun } from '../support/state-folder.ts';

const COUNT = 'n=0; while true; do n=$((n+1)); echo $n > /dev/shm/n; sleep 0.1; done';
const DIGEST = 'cat /home/user/kept /dev/shm/secret | sha256sum';

async function stateFolder(t: TestContext): Promise<NestboxPaths> {
  const paths = await makeStateFolder();
  t.after(() => paths[Symbol.asyncDispose]());
  return paths;
}

/** Reads everything that rests there, which notes what it contains. */
async function verify({ stateDir }: NestboxPaths): Promise<void> {
  const { exitCode, stdout, stderr } = await runNestbox(['disk', '--verify'], { NESTBOX_DIR: stateDir });
  assert.equal(exitCode, 0, `${stdout.toString()}${stderr}`);
}

async function say(sandbox: Sandbox, line: string): Promise<string> {
  return (await sandbox.commands.run(line, { user: 'root' })).stdout.trim();
}

test('a paused sandbox and a snapshot that were copied to another state folder go on there', {
  skip: vmsCannotRun(),
}, async (t) => {
  const from = await stateFolder(t);
  const to = await stateFolder(t);
  const first = await startServer(from);
  t.after(() => first.end('SIGTERM'));
  const sandbox = await Sandbox.create('base', { ...first.connection, timeoutMs: 600_000 });
  await say(
    sandbox,
    'head -c 3000000 /dev/urandom > /home/user/kept; head -c 100000 /dev/urandom > /dev/shm/secret; sync',
  );
  await sandbox.commands.run(COUNT, { background: true, timeoutMs: 0 });
  const digest = await say(sandbox, DIGEST);
  await sandbox.createSnapshot({ name: 'mine' });
  await sandbox.pause();
  await verify(from);

  // Neither times nor links come along; of the second, no holes are lost.
  const { sandboxId } = sandbox;
  await runCommand('cp', ['-r', join(from.stateDir, 'sandboxes'), to.stateDir]);
  const present = new Set(await readdir(join(to.stateDir, 'templates')));
  const taken = (await readdir(join(from.stateDir, 'templates'))).filter((id) => !present.has(id));
  assert.equal(taken.length, 1);
  for (const id of taken)
    await runCommand('sh', [
      '-c',
      'tar -C "$1/templates" -Scf - "$3" | tar -C "$2/templates" -xf -',
      'sh',
      from.stateDir,
      to.stateDir,
      id,
    ]);
  assert.equal(await first.end('SIGTERM'), 0);

  const second = await startServer(to);
  t.after(() => second.end('SIGTERM'));
  const moved = await Sandbox.connect(sandboxId, { ...second.connection, timeoutMs: 600_000 });
  assert.equal(await say(moved, DIGEST), digest);
  const counted = Number(await say(moved, 'cat /dev/shm/n'));
  const later = Number(await say(moved, 'sleep 1; cat /dev/shm/n'));
  assert.ok(counted > 0 && later > counted, 'its program goes on');
  // Out of the guest's cache: what is on the disk.
  assert.equal(await say(moved, `sync; echo 3 > /proc/sys/vm/drop_caches; ${DIGEST}`), digest);

  const made = await Sandbox.create('mine', { ...second.connection, timeoutMs: 600_000 });
  assert.equal(await say(made, DIGEST), digest);
  const [fork] = await made.fork({ timeoutMs: 600_000 });
  assert.ok(fork instanceof Sandbox);
  assert.equal(await say(fork, DIGEST), digest);
  for (const each of [moved, made, fork])
    assert.equal(await say(each, 'dmesg | grep -ciE "ext4-fs error|I/O error" || true'), '0');
  await verify(to);
  await second.end('SIGTERM');
  assert.deepEqual(await findLeftovers(to), []);
});
