import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { lookupUser } from '../users.ts';
import { type Answer, type FilesServer, startFilesServer } from './files.test-server.ts';

let server: FilesServer;
before(async () => {
  server = await startFilesServer();
});
after(() => server[Symbol.asyncDispose]());

let made = 0;
function fresh(): string {
  const path = join(server.root, `case-${++made}`);
  mkdirSync(path);
  return path;
}

function compose(body: unknown): Promise<Answer> {
  return server.call('/files/compose', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
}

function refused(answer: Answer, status: number, message: RegExp): void {
  const body = JSON.parse(answer.body.toString());
  assert.equal(answer.status, status, body.message);
  assert.equal(body.code, status);
  assert.match(body.message, message);
}

test('files become one in the given order, owned by the user, and are gone', async () => {
  const directory = fresh();
  const contents = [randomBytes(3_000_000), Buffer.alloc(0), Buffer.from('end')];
  const sources = contents.map((_, index) => join(directory, `part-${index}`));
  for (const [index, source] of sources.entries()) writeFileSync(source, contents[index] ?? '');
  const destination = join(directory, 'new/whole');
  const answer = await compose({ source_paths: sources, destination, username: 'daemon' });
  assert.equal(answer.status, 200);
  assert.match(String(answer.headers['content-type']), /^application\/json/);
  assert.deepEqual(JSON.parse(answer.body.toString()), { path: destination, name: 'whole', type: 'file' });
  assert.ok(readFileSync(destination).equals(Buffer.concat(contents)));
  assert.equal(statSync(destination).uid, lookupUser('daemon')?.uid);
  assert.deepEqual(readdirSync(directory), ['new']);
  assert.deepEqual(readdirSync(join(directory, 'new')), ['whole']);
});

test('a file that is named twice counts twice, and an existing destination is replaced', async () => {
  const directory = fresh();
  writeFileSync(join(directory, 'a'), 'ab');
  writeFileSync(join(directory, 'to'), 'old content');
  const path = join(directory, 'a');
  assert.equal((await compose({ source_paths: [path, path], destination: join(directory, 'to') })).status, 200);
  assert.equal(readFileSync(join(directory, 'to'), 'utf8'), 'abab');
});

test('what cannot be composed is refused, and everything stays as it was', async () => {
  const directory = fresh();
  const [a, to] = [join(directory, 'a'), join(directory, 'to')];
  writeFileSync(a, 'content');
  writeFileSync(to, 'precious');
  symlinkSync(directory, join(directory, 'link'));
  mkdirSync(join(directory, 'folder'));
  execFileSync('mkfifo', [join(directory, 'pipe')]);
  refused(await compose('{'), 400, /not JSON/);
  refused(await compose({ source_paths: [], destination: to }), 400, /source_paths must not be empty/);
  refused(await compose({ source_paths: [a], destination: '' }), 400, /destination is required/);
  refused(await compose({ source_paths: [a] }), 400, /destination/);
  refused(await compose({ source_paths: [7], destination: to }), 400, /invalid request body/);
  refused(await compose({ source_paths: [a], destination: to, username: 'gone' }), 401, /unknown user gone/);
  refused(await compose({ source_paths: [a], destination: '~daemon/x' }), 400, /user-specific home/);
  refused(await compose({ source_paths: [a, to], destination: to }), 400, /same as destination/);
  refused(await compose({ source_paths: [a, `${directory}/./to`], destination: to }), 400, /same as destination/);
  refused(await compose({ source_paths: [join(directory, 'link/to')], destination: to }), 400, /same as destination/);
  refused(await compose({ source_paths: [a, join(directory, 'none')], destination: to }), 404, /not found/);
  refused(await compose({ source_paths: [join(directory, 'folder')], destination: to }), 400, /not a regular file/);
  refused(await compose({ source_paths: [join(directory, 'pipe')], destination: to }), 400, /not a regular file/);
  refused(await compose({ source_paths: [a], destination: join(directory, 'folder') }), 400, /is a directory/);
  refused(await compose({ source_paths: [a], destination: `${directory}/${'x'.repeat(300)}` }), 400, /too long/);
  assert.deepEqual(readdirSync(directory).sort(), ['a', 'folder', 'link', 'pipe', 'to']);
  assert.equal(readFileSync(a, 'utf8'), 'content');
  assert.equal(readFileSync(to, 'utf8'), 'precious');
});

test('without space is 507; the sources and the old destination stay, and nothing else', async (t) => {
  const mount = fresh();
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', mount], { stdio: 'ignore' });
  } catch {
    return t.skip('file systems cannot be mounted here');
  }
  t.after(() => execFileSync('umount', ['--lazy', mount]));
  writeFileSync(join(mount, 'a'), randomBytes(600_000));
  writeFileSync(join(mount, 'to'), 'precious');
  refused(
    await compose({ source_paths: [join(mount, 'a')], destination: join(mount, 'to') }),
    507,
    /^not enough disk space available$/,
  );
  assert.deepEqual(readdirSync(mount).sort(), ['a', 'to']);
  assert.equal(readFileSync(join(mount, 'to'), 'utf8'), 'precious');
  assert.ok(existsSync(join(mount, 'a')));
});
