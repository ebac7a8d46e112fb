import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { readMetadata } from '../filesystem/metadata.ts';
import { lookupUser } from '../users.ts';
import { type Answer, type FilesServer, startFilesServer } from './files.test-server.ts';
import { fileSignature } from './signature.ts';

let server: FilesServer;
before(async () => {
  server = await startFilesServer();
});
after(() => server[Symbol.asyncDispose]());

let made = 0;
function newPath(): string {
  return join(server.root, `new-${++made}`);
}

const RAW = { 'Content-Type': 'application/octet-stream' };

function put(path: string, body: Buffer | string | Readable, headers: Record<string, string | string[]> = {}) {
  return server.call('/files', { method: 'POST', query: { path }, headers: { ...RAW, ...headers }, body });
}

interface Part {
  readonly name?: string;
  readonly filename?: string;
  readonly content: Buffer | string;
}

const BOUNDARY = 'a-boundary';

/** A form as fetch sends it: names in UTF-8, as they are. */
function form(parts: readonly Part[]): Buffer {
  const pieces = parts.flatMap(({ name = 'file', filename, content }) => [
    Buffer.from(
      `--${BOUNDARY}\r\nContent-Disposition: form-data; name="${name}"${filename === undefined ? '' : `; filename="${filename}"\r\nContent-Type: application/octet-stream`}\r\n\r\n`,
    ),
    Buffer.from(content),
    Buffer.from('\r\n'),
  ]);
  return Buffer.concat([...pieces, Buffer.from(`--${BOUNDARY}--\r\n`)]);
}

function post(body: Buffer, query: Record<string, string> = {}, headers: Record<string, string> = {}) {
  return server.call('/files', {
    method: 'POST',
    query,
    headers: { 'Content-Type': `multipart/form-data; boundary=${BOUNDARY}`, ...headers },
    body,
  });
}

function written(answer: Answer): unknown {
  assert.equal(answer.status, 200, answer.body.toString());
  assert.equal(answer.headers['content-type'], 'text/plain; charset=utf-8');
  return JSON.parse(answer.body.toString());
}

function refused(answer: Answer, status: number, message: string | RegExp): void {
  const body = JSON.parse(answer.body.toString());
  assert.equal(answer.status, status, body.message);
  assert.equal(answer.headers['content-type'], 'application/json; charset=utf-8');
  assert.equal(body.code, status);
  if (typeof message === 'string') assert.equal(body.message, message);
  else assert.match(body.message, message);
}

function descriptorsBelow(directory: string): number {
  let count = 0;
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`).startsWith(directory)) count += 1;
    } catch {
      // The descriptor of the listing itself is closed by now.
    }
  }
  return count;
}

async function eventually(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

describe('a raw upload', () => {
  for (const size of [0, 1, 65_537, 1_048_576, 9 * 1_048_576 + 3]) {
    test(`of ${size} bytes is stored as it was sent, plain and in gzip`, async () => {
      const content = randomBytes(size);
      const path = newPath();
      const entry = { name: path.slice(server.root.length + 1), path, type: 'file' };
      assert.deepEqual(written(await put(path, content)), [entry]);
      assert.ok(readFileSync(path).equals(content));
      assert.deepEqual(written(await put(path, gzipSync(content), { 'Content-Encoding': 'gzip' })), [entry]);
      assert.ok(readFileSync(path).equals(content));
      assert.equal(descriptorsBelow(server.root), 0);
    });
  }

  test('replaces the content of a longer file in place, keeping its mode', async () => {
    const path = newPath();
    writeFileSync(path, 'a longer content');
    chmodSync(path, 0o600);
    const { ino } = statSync(path);
    await put(path, 'short');
    assert.equal(readFileSync(path, 'utf8'), 'short');
    assert.equal(statSync(path).ino, ino);
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });

  test('of unknown length, in chunks, is stored whole', async () => {
    const path = newPath();
    const chunks = Array.from({ length: 50 }, () => randomBytes(10_000));
    written(await put(path, Readable.from(chunks)));
    assert.ok(readFileSync(path).equals(Buffer.concat(chunks)));
  });

  test('makes the parents, and all new things belong to the user', async () => {
    const path = join(newPath(), 'ä b/c.txt');
    const answer = await server.call('/files', {
      method: 'POST',
      query: { path, username: 'daemon' },
      headers: RAW,
      body: 'x',
    });
    written(answer);
    const daemon = lookupUser('daemon');
    for (const each of [path, join(path, '..'), join(path, '../..')]) assert.equal(statSync(each).uid, daemon?.uid);
    assert.equal(statSync(path).gid, daemon?.gid);
    assert.equal(statSync(join(path, '..')).mode & 0o777, 0o755);
    assert.equal(statSync(server.root).uid, 0);
  });

  test('takes over a file of somebody else, also in a sticky directory', async () => {
    const directory = newPath();
    mkdirSync(directory);
    chmodSync(directory, 0o1777);
    const path = join(directory, 'file');
    writeFileSync(path, 'old');
    chownSync(path, 4_000_000, 4_000_000);
    written(await put(path, 'new'));
    assert.equal(statSync(path).uid, 0);
    assert.equal(readFileSync(path, 'utf8'), 'new');
  });

  test('writes through a link, and creates what a dangling one leads to', async () => {
    const path = newPath();
    symlinkSync(path, `${path}-link`);
    written(await put(`${path}-link`, 'x'));
    assert.equal(readFileSync(path, 'utf8'), 'x');
  });

  test('refuses directories, things that are no files, and paths that can name none', async () => {
    refused(await put(server.root, 'x'), 400, `path is a directory: ${server.root}`);
    const path = newPath();
    execFileSync('mkfifo', [path]);
    refused(await put(path, 'x'), 400, `path is not a regular file: ${path}`);
    refused(await put('/dev/null', 'x'), 400, /not a regular file/);
    refused(await put('~daemon/x', 'x'), 400, /user-specific home/);
    refused(await put('/tmp/a\0b', 'x'), 400, /NUL/);
    refused(await put(`${server.root}/${'x'.repeat(5000)}`, 'x'), 400, /too long/);
    refused(await put(`/${'x/'.repeat(2500)}y`, 'x'), 400, /too long/);
    writeFileSync(`${path}-file`, '');
    refused(await put(`${path}-file/below`, 'x'), 500, /ENOTDIR/);
  });

  test('needs a path, a known user and a known content type', async () => {
    const call = (query: Record<string, string>, headers: Record<string, string>) =>
      server.call('/files', { method: 'POST', query, headers, body: 'x' });
    refused(await call({}, RAW), 400, 'path query parameter is required for raw body upload');
    refused(await call({ path: newPath(), username: 'gone' }, RAW), 401, /unknown user gone/);
    refused(await call({ path: newPath() }, { 'Content-Type': 'text/plain' }), 400, /unsupported content type/);
    refused(await call({ path: newPath() }, {}), 400, /unsupported content type/);
  });

  test('with a body that is not what Content-Encoding says is refused before anything is written', async () => {
    const path = newPath();
    writeFileSync(path, 'precious');
    refused(await put(path, 'not gzip', { 'Content-Encoding': 'gzip' }), 400, /^error decompressing request body/);
    refused(await put(path, '', { 'Content-Encoding': 'gzip' }), 400, /^error decompressing request body/);
    refused(await put(path, 'x', { 'Content-Encoding': 'br' }), 400, /unsupported Content-Encoding: br/);
    assert.equal(readFileSync(path, 'utf8'), 'precious');
    const cut = gzipSync(randomBytes(2_000_000)).subarray(0, 1_000_000);
    refused(await put(path, cut, { 'Content-Encoding': 'gzip' }), 400, /^error decompressing request body/);
    assert.equal(descriptorsBelow(server.root), 0);
  });

  test('that breaks off leaves what has come and no open file', { timeout: 20_000 }, async () => {
    for (const headers of [{}, { 'Content-Encoding': 'gzip' }]) {
      const path = newPath();
      const outgoing = request(server.url('/files', { path }), {
        method: 'POST',
        headers: { ...RAW, ...headers, 'Content-Length': 100_000_000 },
      });
      outgoing.on('error', () => undefined);
      const content = randomBytes(2_000_000);
      outgoing.write('Content-Encoding' in headers ? gzipSync(content) : content);
      await eventually(() => existsSync(path) && statSync(path).size > 0);
      outgoing.destroy();
      await eventually(() => descriptorsBelow(server.root) === 0);
      assert.ok(content.subarray(0, statSync(path).size).equals(readFileSync(path)));
    }
  });

  test('that is refused leaves the connection fit for the next request', async () => {
    const { hostname, port } = new URL(server.origin);
    const socket = connect(Number(port), hostname);
    const head = (path: string, length: number) =>
      `POST /files?path=${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: ${length}\r\n\r\n`;
    const path = newPath();
    socket.write(head('/', 3_000_000));
    socket.write(Buffer.alloc(3_000_000));
    socket.write(`${head(path, 2)}ok`);
    let answers = '';
    for await (const chunk of socket) {
      answers += chunk;
      if (answers.includes('HTTP/1.1 200')) break;
    }
    assert.match(answers, /^HTTP\/1\.1 400/);
    assert.equal(readFileSync(path, 'utf8'), 'ok');
  });

  test('without space is 507 and leaves no open file', async (t) => {
    const mount = newPath();
    mkdirSync(mount);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k,nr_inodes=16', 'tmpfs', mount], { stdio: 'ignore' });
    } catch {
      return t.skip('file systems cannot be mounted here');
    }
    t.after(() => execFileSync('umount', ['--lazy', mount]));
    const body = randomBytes(4_000_000);
    const message = 'not enough disk space available';
    refused(await put(join(mount, 'a'), body), 507, message);
    refused(await post(form([{ filename: join(mount, 'b'), content: body }])), 507, message);
    const compressed = gzipSync(body);
    refused(await put(join(mount, 'c'), compressed, { 'Content-Encoding': 'gzip' }), 507, message);
    for (let file = 0; file < 20; file += 1) await put(join(mount, `empty-${file}`), '');
    refused(await put(join(mount, 'one-more'), ''), 507, message);
    assert.equal(descriptorsBelow(server.root), 0);
  });
});

describe('a form', () => {
  test('stores every part named file under its whole name, and passes over the others', async () => {
    const root = newPath();
    const files = [
      { filename: `${root}/größe/日本.txt`, content: 'one' },
      { filename: `${root}/b`, content: randomBytes(3_000_000) },
      { filename: `${root}/c`, content: '' },
    ];
    const other = { name: 'other', filename: `${root}/unseen`, content: 'x'.repeat(500_000) };
    const answer = await post(form([{ name: 'note', content: 'x' }, ...files.slice(0, 2), other, ...files.slice(2)]));
    assert.deepEqual(
      written(answer),
      files.map(({ filename }) => ({ name: filename.split('/').at(-1), path: filename, type: 'file' })),
    );
    for (const { filename, content } of files) assert.ok(readFileSync(filename).equals(Buffer.from(content)));
    assert.ok(!existsSync(`${root}/unseen`));
    assert.equal(descriptorsBelow(server.root), 0);
  });

  test('stores many small files in order', async () => {
    const root = newPath();
    const files = Array.from({ length: 200 }, (_, at) => ({ filename: `${root}/${at}`, content: `content ${at}` }));
    written(await post(form(files)));
    for (const { filename, content } of files) assert.equal(readFileSync(filename, 'utf8'), content);
  });

  test('as fetch sends it works, too', async () => {
    const path = newPath();
    const data = new FormData();
    data.append('file', new Blob(['from fetch']), path);
    const response = await fetch(server.url('/files'), { method: 'POST', body: data });
    assert.deepEqual(await response.json(), [{ name: path.slice(server.root.length + 1), path, type: 'file' }]);
    assert.equal(readFileSync(path, 'utf8'), 'from fetch');
  });

  test('goes to the path of the query, also with a part that has no file name', async () => {
    const path = newPath();
    written(await post(form([{ filename: 'ignored', content: 'x' }]), { path }));
    assert.equal(readFileSync(path, 'utf8'), 'x');
    const bytes = randomBytes(1000);
    written(await post(form([{ content: bytes }]), { path }));
    assert.ok(readFileSync(path).equals(bytes));
    refused(await post(form([{ content: 'x' }])), 400, /neither a path nor a file name/);
    refused(await post(form([{ content: 'x'.repeat(2_000_000) }]), { path }), 400, /1 MiB/);
  });

  test('in gzip, and one that is mixed, are read alike', async () => {
    const path = newPath();
    written(await post(gzipSync(form([{ filename: path, content: 'x' }])), {}, { 'Content-Encoding': 'gzip' }));
    const mixed = { 'Content-Type': `multipart/mixed; boundary=${BOUNDARY}` };
    written(await post(form([{ filename: path, content: 'y' }]), {}, mixed));
    assert.equal(readFileSync(path, 'utf8'), 'y');
  });

  test('with the same path twice is refused, and the first file stays', async () => {
    const path = newPath();
    const twice = [
      { filename: path, content: 'first' },
      { filename: path, content: 'second' },
    ];
    refused(await post(form(twice)), 400, /multiple files to the same path/);
    assert.equal(readFileSync(path, 'utf8'), 'first');
    refused(
      await post(
        form([
          { filename: 'a', content: '' },
          { filename: 'b', content: '' },
        ]),
        { path },
      ),
      400,
      /multiple files to the same path/,
    );
  });

  test('stops at the first file that cannot be stored; earlier ones stay, later ones are not written', async () => {
    const root = newPath();
    const answer = await post(
      form([
        { filename: `${root}/a`, content: 'a' },
        { filename: server.root, content: randomBytes(1_000_000) },
        { filename: `${root}/c`, content: 'c' },
      ]),
    );
    refused(answer, 400, `path is a directory: ${server.root}`);
    assert.deepEqual(readdirSync(root), ['a']);
    assert.equal(descriptorsBelow(server.root), 0);
  });

  test('without files is an empty list', async () => {
    assert.deepEqual(written(await post(form([]))), []);
  });

  test('that is malformed is refused', async () => {
    const path = newPath();
    const whole = form([{ filename: path, content: 'x'.repeat(100_000) }]);
    refused(await post(whole.subarray(0, 50_000)), 400, /^error reading form/);
    refused(await post(whole.subarray(0, 60)), 400, /^error reading form/);
    refused(await post(Buffer.from('nothing of the kind')), 400, /^error reading form/);
    refused(await post(whole, {}, { 'Content-Type': 'multipart/form-data' }), 400, /^error reading form/);
    assert.equal(descriptorsBelow(server.root), 0);
  });

  test('that breaks off leaves no open file', { timeout: 20_000 }, async () => {
    const path = newPath();
    const outgoing = request(server.url('/files'), {
      method: 'POST',
      headers: { 'Content-Type': `multipart/form-data; boundary=${BOUNDARY}`, 'Content-Length': 100_000_000 },
    });
    outgoing.on('error', () => undefined);
    outgoing.write(form([{ filename: path, content: randomBytes(2_000_000) }]).subarray(0, 1_500_000));
    await eventually(() => existsSync(path) && statSync(path).size > 0);
    outgoing.destroy();
    await eventually(() => descriptorsBelow(server.root) === 0);
  });
});

describe('metadata', () => {
  test('is stored with the file, answered, and replaced as a whole by the next upload', async (t) => {
    const path = newPath();
    const headers = { 'X-Metadata-Author': ['Ada', 'second'], 'x-metadata-UPPER': 'Case Kept' };
    const metadata = { author: 'Ada', upper: 'Case Kept' };
    const [entry] = written(await put(path, 'x', headers)) as unknown[];
    assert.deepEqual(entry, { name: path.slice(server.root.length + 1), path, type: 'file', metadata });
    if (Object.keys(readMetadata(path)).length === 0) return t.skip('no extended attributes here');
    assert.deepEqual({ ...readMetadata(path) }, metadata);
    await put(path, 'x', { 'X-Metadata-Other': '' });
    assert.deepEqual({ ...readMetadata(path) }, { other: '' });
    await put(path, 'x');
    assert.deepEqual({ ...readMetadata(path) }, {});
  });

  test('goes to every file of a form', async () => {
    const [a, b] = [newPath(), newPath()];
    const body = form([
      { filename: a, content: '' },
      { filename: b, content: '' },
    ]);
    const entries = written(await post(body, {}, { 'X-Metadata-K': 'v' })) as { metadata: unknown }[];
    assert.deepEqual(
      entries.map(({ metadata }) => metadata),
      [{ k: 'v' }, { k: 'v' }],
    );
  });

  test('beyond its limits is refused before anything is written', async () => {
    const path = newPath();
    const invalid = /^invalid metadata: /;
    refused(await put(path, 'x', { 'X-Metadata-': 'v' }), 400, invalid);
    refused(await put(path, 'x', { [`X-Metadata-${'k'.repeat(247)}`]: 'v' }), 400, invalid);
    refused(await put(path, 'x', { 'X-Metadata-K': 'grün' }), 400, invalid);
    refused(await put(path, 'x', { 'X-Metadata-K': 'a\tb' }), 400, invalid);
    const total = (value: string) => ({ 'X-Metadata-K': value });
    refused(await put(path, 'x', total('v'.repeat(4096 - 10 + 1))), 400, invalid);
    assert.ok(!existsSync(path));
  });
});

test('a signed upload URL opens writing of that path only', async () => {
  const token = 'ea_secret';
  server.state.accessToken = token;
  try {
    const path = newPath();
    const sign = (operation: 'read' | 'write') =>
      fileSignature({ path, operation, username: '', expiration: undefined }, token);
    const call = (signature: string) =>
      server.call('/files', { method: 'POST', query: { path, signature }, headers: RAW, body: 'x' });
    refused(await call(sign('read')), 401, 'invalid signature');
    assert.ok(!existsSync(path));
    written(await call(sign('write')));
    // A form whose names are in the parts is signed for the empty path.
    const signature = fileSignature({ path: '', operation: 'write', username: '', expiration: undefined }, token);
    written(await post(form([{ filename: path, content: 'y' }]), { signature }));
  } finally {
    server.state.accessToken = undefined;
  }
});

test('large content streams: memory stays far below its size', { timeout: 60_000 }, async () => {
  const path = newPath();
  const chunk = Buffer.alloc(1_048_576, 'x');
  const count = 384;
  let peak = 0;
  function* chunks() {
    for (let at = 0; at < count; at += 1) {
      peak = Math.max(peak, process.memoryUsage().arrayBuffers);
      yield chunk;
    }
  }
  written(await put(path, Readable.from(chunks(), { objectMode: false, highWaterMark: 1 })));
  assert.equal(statSync(path).size, count * chunk.length);
  assert.ok(peak < 128 * 1_048_576, `${peak} bytes were held`);
});

test('two uploads to the same path at once both succeed, and the file is as long as either', async () => {
  const path = newPath();
  const [first, second] = await Promise.all([put(path, 'a'.repeat(100_000)), put(path, 'b'.repeat(100_000))]);
  assert.deepEqual([first.status, second.status], [200, 200]);
  assert.equal(statSync(path).size, 100_000);
});
