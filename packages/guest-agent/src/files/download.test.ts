import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { type Answer, type FilesServer, startFilesServer } from './files.test-server.ts';
import { fileSignature } from './signature.ts';

let server: FilesServer;
before(async () => {
  server = await startFilesServer();
});
after(() => server[Symbol.asyncDispose]());

let made = 0;
function file(content: Buffer | string, name = `file-${++made}`): string {
  const path = join(server.root, name);
  writeFileSync(path, content);
  return path;
}

function get(path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Answer> {
  return server.call('/files', { method, query: { path }, headers });
}

function refused(answer: Answer, status: number, message: string | RegExp): void {
  assert.equal(answer.status, status);
  assert.equal(answer.headers['content-type'], 'application/json; charset=utf-8');
  assert.equal(answer.headers['x-content-type-options'], 'nosniff');
  const body = JSON.parse(answer.body.toString());
  assert.equal(body.code, status);
  if (typeof message === 'string') assert.equal(body.message, message);
  else assert.match(body.message, message);
}

async function openDescriptorsOf(path: string): Promise<number> {
  let count = 0;
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`) === path) count += 1;
    } catch {
      // The descriptor of the listing itself is closed by now.
    }
  }
  return count;
}

/** The server closes a file a moment after the last byte has left; one that it never closes hangs the test. */
async function allClosed(path: string): Promise<void> {
  while ((await openDescriptorsOf(path)) > 0) await new Promise((resolve) => setImmediate(resolve));
}

describe('a download', () => {
  // The sizes around 256 KiB are where small files end; 5 MiB takes several reads.
  for (const size of [0, 1, 65_536, 262_143, 262_144, 262_145, 1_048_576, 5 * 1_048_576 + 7]) {
    test(`of ${size} bytes comes whole, with its length, and leaves no file open`, async () => {
      const content = randomBytes(size);
      const path = file(content);
      const answer = await get(path);
      assert.equal(answer.status, 200);
      assert.equal(answer.headers['content-length'], String(size));
      assert.equal(answer.headers.vary, 'Accept-Encoding');
      assert.equal(answer.headers['accept-ranges'], 'bytes');
      assert.ok(answer.body.equals(content));
      await allClosed(path);
    });

    test(`of ${size} bytes in gzip unpacks to the same`, async () => {
      const content = Buffer.concat([randomBytes(size >> 1), Buffer.alloc(size - (size >> 1), 'text')]);
      const answer = await get(file(content), { 'Accept-Encoding': 'gzip, deflate' });
      assert.equal(answer.status, 200);
      if (size === 0) {
        assert.equal(answer.headers['content-length'], '0');
        return;
      }
      assert.equal(answer.headers['content-encoding'], 'gzip');
      assert.equal(answer.headers['transfer-encoding'], 'chunked');
      assert.equal(answer.headers.vary, 'Accept-Encoding');
      assert.ok(gunzipSync(answer.body).equals(content));
    });
  }

  test('names the file and its type by extension, else by content', async () => {
    const html = await get(file('x', 'page.html'));
    assert.equal(html.headers['content-type'], 'text/html; charset=utf-8');
    assert.equal(html.headers['content-disposition'], 'inline; filename=page.html');
    assert.equal((await get(file('{}', 'a.json'))).headers['content-type'], 'application/json');
    assert.equal((await get(file('plain words'))).headers['content-type'], 'text/plain; charset=utf-8');
    assert.equal((await get(file(Buffer.from('89504e470d0a1a0a', 'hex')))).headers['content-type'], 'image/png');
    assert.equal((await get(file(Buffer.from([0, 1, 2])))).headers['content-type'], 'application/octet-stream');
    const gzipped = await get(file('plain words'), { 'Accept-Encoding': 'gzip' });
    assert.equal(gzipped.headers['content-type'], 'application/octet-stream');
    const named = await get(file('x', 'grüße "1".txt'));
    assert.equal(named.headers['content-disposition'], "inline; filename*=utf-8''gr%C3%BC%C3%9Fe%20%221%22.txt");
  });

  test('follows links, and refuses directories, missing files and what is no file', async () => {
    const path = file('content');
    symlinkSync(path, `${path}-link`);
    symlinkSync(`${path}-missing`, `${path}-dangling`);
    symlinkSync(`${path}-circle`, `${path}-circle`);
    assert.equal((await get(`${path}-link`)).body.toString(), 'content');
    refused(await get(`${path}-dangling`), 404, `path '${path}-dangling' does not exist`);
    refused(await get(`${path}-circle`), 500, /ELOOP/);
    refused(await get(join(server.root, 'missing')), 404, /does not exist/);
    refused(await get(server.root), 400, `path '${server.root}' is a directory`);
    const pipe = `${path}-pipe`;
    execFileSync('mkfifo', [pipe]);
    refused(await get(pipe), 400, `path '${pipe}' is not a regular file`);
    refused(await get('/dev/zero'), 400, /not a regular file/);
  });

  test('refuses paths that can name no file', async () => {
    refused(await get('~daemon/x'), 400, /user-specific home/);
    refused(await get('/tmp/a\0b'), 400, /NUL/);
    refused(await get(`/${'x'.repeat(5000)}`), 400, /too long/);
  });

  test('serves files of the kernel, whose size nobody knows, as a whole', async () => {
    assert.equal((await get('/proc/version')).body.toString(), readFileSync('/proc/version', 'utf8'));
    const answer = await get('/sys/kernel/mm/transparent_hugepage/enabled');
    assert.match(answer.body.toString(), /always/);
    assert.equal(answer.headers['content-length'], String(answer.body.length));
    const symbols = await get('/proc/kallsyms');
    assert.equal(symbols.status, 200);
    assert.ok(symbols.body.length > 262_144);
  });

  test('takes an empty or missing path as the default workdir, and names from the home of the user', async () => {
    server.state.defaultWorkdir = server.root;
    try {
      refused(await get(''), 400, `path '${server.root}' is a directory`);
      refused(await server.call('/files'), 400, `path '${server.root}' is a directory`);
    } finally {
      server.state.defaultWorkdir = undefined;
    }
    refused(await server.call('/files', { query: { path: '', username: 'daemon' } }), 400, /is a directory/);
    refused(
      await server.call('/files', { query: { path: '/', username: 'gone' } }),
      401,
      "error looking up user 'gone': user: unknown user gone",
    );
  });

  test('answers HEAD with the headers alone', async () => {
    const answer = await get(file('content', 'head.txt'), {}, 'HEAD');
    assert.equal(answer.status, 200);
    assert.equal(answer.headers['content-length'], '7');
    assert.equal(answer.body.length, 0);
  });

  test('closes its file when the client leaves in the middle', { timeout: 20_000 }, async () => {
    const path = file(Buffer.alloc(64 * 1_048_576));
    const outgoing = request(server.url('/files', { path }));
    outgoing.end();
    const [response] = await once(outgoing, 'response');
    await once(response, 'readable');
    assert.equal(await openDescriptorsOf(path), 1);
    outgoing.destroy();
    await allClosed(path);
  });

  test('cuts the connection when the file turns out shorter than promised', async () => {
    const path = file(Buffer.alloc(32 * 1_048_576));
    const outgoing = request(server.url('/files', { path }));
    outgoing.end();
    const [response] = await once(outgoing, 'response');
    truncateSync(path, 1_048_576);
    await assert.rejects(async () => {
      for await (const _ of response);
    }, /aborted/);
  });
});

describe('coding', () => {
  test('nothing acceptable is 406, also for ranges when the plain file is refused', async () => {
    const path = file('content');
    refused(
      await get(path, { 'Accept-Encoding': 'br, identity;q=0' }),
      406,
      'no acceptable encoding found, supported: [gzip]',
    );
    refused(await get(path, { 'Accept-Encoding': 'gzip, identity;q=0', Range: 'bytes=0-1' }), 406, /acceptable/);
  });

  test('a range or a condition makes it the plain file', async () => {
    const path = file('content');
    const part = await get(path, { 'Accept-Encoding': 'gzip', Range: 'bytes=0-1' });
    assert.equal(part.headers['content-encoding'], undefined);
    assert.equal(part.body.toString(), 'co');
    const conditional = await get(path, { 'Accept-Encoding': 'gzip', 'If-None-Match': '"x"' });
    assert.equal(conditional.headers['content-encoding'], undefined);
    assert.equal(conditional.body.toString(), 'content');
  });
});

describe('ranges and conditions', () => {
  test('one range is 206 with its place, whether the file is small or large', async () => {
    const content = randomBytes(1_048_576);
    const path = file(content);
    for (const [header, start, end] of [
      ['bytes=0-0', 0, 0],
      ['bytes=100-299999', 100, 299_999],
      ['bytes=1048570-', 1_048_570, 1_048_575],
      ['bytes=-5', 1_048_571, 1_048_575],
      ['bytes=7-99999999', 7, 1_048_575],
    ] as const) {
      const answer = await get(path, { Range: header });
      assert.equal(answer.status, 206, header);
      assert.equal(answer.headers['content-range'], `bytes ${start}-${end}/1048576`);
      assert.equal(answer.headers['content-length'], String(end - start + 1));
      assert.ok(answer.body.equals(content.subarray(start, end + 1)));
    }
  });

  test('several ranges come as one multipart body of the promised length', async () => {
    const content = randomBytes(600_000);
    const answer = await get(file(content), { Range: 'bytes=0-9,300000-300009,-4' });
    assert.equal(answer.status, 206);
    const boundary = /^multipart\/byteranges; boundary=(\w+)$/.exec(answer.headers['content-type'] ?? '')?.[1];
    assert.ok(boundary);
    assert.equal(answer.headers['content-length'], String(answer.body.length));
    const part = (start: number, end: number) =>
      Buffer.concat([
        Buffer.from(
          `--${boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes ${start}-${end}/600000\r\n\r\n`,
        ),
        content.subarray(start, end + 1),
        Buffer.from('\r\n'),
      ]);
    const expected = [part(0, 9), part(300_000, 300_009), part(599_996, 599_999), Buffer.from(`--${boundary}--\r\n`)];
    assert.ok(answer.body.equals(Buffer.concat(expected)));
  });

  test('a range outside of the file is 416 with the size, a malformed one 416', async () => {
    const path = file('content');
    const outside = await get(path, { Range: 'bytes=7-' });
    refused(outside, 416, /overlap/);
    assert.equal(outside.headers['content-range'], 'bytes */7');
    refused(await get(path, { Range: 'bytes=3-2' }), 416, 'invalid range');
    refused(await get(path, { Range: 'lines=1-2' }), 416, 'invalid range');
    assert.equal((await get(file(''), { Range: 'bytes=0-' })).status, 200);
  });

  test('conditions about the time of change are answered 304 and 412', async () => {
    const path = file('content');
    utimesSync(path, 1_700_000_000.5, 1_700_000_000.5);
    const at = (seconds: number) => new Date(seconds * 1000).toUTCString();
    const status = async (headers: Record<string, string>) => (await get(path, headers)).status;
    assert.equal((await get(path)).headers['last-modified'], at(1_700_000_000));
    assert.equal(await status({ 'If-Modified-Since': at(1_700_000_000) }), 304);
    assert.equal(await status({ 'If-Modified-Since': at(1_699_999_999) }), 200);
    assert.equal(await status({ 'If-Modified-Since': 'yesterday' }), 200);
    assert.equal(await status({ 'If-None-Match': '*' }), 304);
    assert.equal(await status({ 'If-None-Match': '"tag"', 'If-Modified-Since': at(1_700_000_000) }), 200);
    assert.equal(await status({ 'If-Unmodified-Since': at(1_699_999_999) }), 412);
    assert.equal(await status({ 'If-Unmodified-Since': at(1_700_000_000) }), 200);
    assert.equal(await status({ 'If-Match': '"tag"' }), 412);
    assert.equal(await status({ 'If-Match': '*' }), 200);
    assert.equal(await status({ Range: 'bytes=0-0', 'If-Range': at(1_700_000_000) }), 206);
    assert.equal(await status({ Range: 'bytes=0-0', 'If-Range': at(1_699_999_999) }), 200);
    assert.equal(await status({ Range: 'bytes=0-0', 'If-Range': '"tag"' }), 200);
    assert.equal((await get(path, { 'If-None-Match': '*' })).body.length, 0);
  });
});

describe('with an access token', () => {
  const token = 'ea_secret';
  before(() => {
    server.state.accessToken = token;
  });
  after(() => {
    server.state.accessToken = undefined;
  });

  const now = () => BigInt(Math.floor(Date.now() / 1000));

  function signed(path: string, username: string, expiration?: bigint): Record<string, string> {
    const signature = fileSignature({ path, operation: 'read', username, expiration }, token);
    return {
      path,
      ...(username !== '' && { username }),
      signature,
      ...(expiration !== undefined && { signature_expiration: String(expiration) }),
    };
  }

  test('the header alone is enough, and a wrong one is refused even with a signature', async () => {
    const path = file('content');
    const call = (headers: Record<string, string>, query: Record<string, string> = { path }) =>
      server.call('/files', { query, headers });
    assert.equal((await call({ 'X-Access-Token': token })).status, 200);
    const message = 'access token present in header but does not match';
    refused(await call({ 'X-Access-Token': 'wrong' }), 401, message);
    refused(await call({ 'X-Access-Token': 'wrong' }, signed(path, '')), 401, message);
    refused(await call({}), 401, 'missing signature query parameter');
    refused(await call({ 'X-Access-Token': '' }), 401, 'missing signature query parameter');
  });

  test('a signature opens exactly what it was made for, until it expires', async () => {
    const path = file('content');
    const status = async (query: Record<string, string>) => (await server.call('/files', { query })).status;
    assert.equal(await status(signed(path, '')), 200);
    assert.equal(await status(signed(path, 'daemon')), 200);
    assert.equal(await status(signed(path, '', now() + 60n)), 200);
    const message = 'invalid signature';
    const call = (query: Record<string, string>) => server.call('/files', { query });
    refused(await call({ ...signed(path, ''), path: file('other') }), 401, message);
    refused(await call({ ...signed(path, ''), username: 'daemon' }), 401, message);
    refused(await call({ ...signed(path, ''), signature_expiration: String(now() + 60n) }), 401, message);
    const stolen = fileSignature({ path, operation: 'write', username: '', expiration: undefined }, token);
    refused(await call({ path, signature: stolen }), 401, message);
    refused(await call(signed(path, '', now() - 1n)), 401, 'signature is already expired');
    refused(await call({ ...signed(path, '', now() - 1n), signature: 'v1_x' }), 401, message);
  });

  test('the signature is checked before the user and the path', async () => {
    refused(await server.call('/files', { query: { path: '~x', username: 'gone' } }), 401, /missing signature/);
  });

  test('an expiration that is no number is refused in plain text', async () => {
    const answer = await server.call('/files', { query: { path: '/x', signature_expiration: 'soon' } });
    assert.equal(answer.status, 400);
    assert.match(String(answer.headers['content-type']), /^text\/plain/);
  });
});

test('the signature is what the clients compute', () => {
  const digest = createHash('sha256').update('/home/user/a+b.txt:read:user:token:1700000000').digest('base64');
  assert.equal(
    fileSignature(
      { path: '/home/user/a+b.txt', operation: 'read', username: 'user', expiration: 1_700_000_000n },
      'token',
    ),
    `v1_${digest.replace(/=+$/, '')}`,
  );
});
