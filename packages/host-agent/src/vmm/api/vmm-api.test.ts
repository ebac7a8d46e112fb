import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createRawServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { awaitSocket } from './await-socket.ts';
import { faultOf, VmmApi, VmmFaultError, VmmUnavailableError } from './vmm-api.ts';

const CALL = { method: 'PUT', path: '/vm', deadlineMs: 5000 } as const;

async function socketFor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-api-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return join(folder, 'api.sock');
}

async function serve(t: TestContext, listener: RequestListener): Promise<VmmApi> {
  const path = await socketFor(t);
  const server = createServer(listener);
  await new Promise<void>((done) => server.listen(path, done));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return new VmmApi(path);
}

async function serveRaw(t: TestContext, answer: (socket: Socket) => void): Promise<VmmApi> {
  const path = await socketFor(t);
  const sockets = new Set<Socket>();
  const server = createRawServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('data', () => answer(socket));
  });
  await new Promise<void>((done) => server.listen(path, done));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return new VmmApi(path);
}

test('sends JSON with its length to localhost, and gives back the JSON of the answer', async (t) => {
  const api = await serve(t, async (incoming, answer) => {
    let body = '';
    for await (const part of incoming) body += String(part);
    const { method, url, headers } = incoming;
    answer.end(JSON.stringify({ method, url, body, host: headers.host, length: headers['content-length'] }));
  });
  assert.deepEqual(await api.call({ ...CALL, body: { state: 'Paused' } }), {
    method: 'PUT',
    url: '/vm',
    body: '{"state":"Paused"}',
    host: 'localhost',
    length: '18',
  });
  assert.deepEqual(await api.call({ ...CALL, method: 'GET', path: '/' }), {
    method: 'GET',
    url: '/',
    body: '',
    host: 'localhost',
  });
});

test('an answer without a body is undefined', async (t) => {
  const api = await serve(t, (_, answer) => answer.writeHead(204).end());
  assert.equal(await api.call(CALL), undefined);
});

test("a status of 300 or more is a fault, with the VMM's own words", async (t) => {
  const api = await serve(t, (_, answer) =>
    answer.writeHead(400).end(JSON.stringify({ fault_message: 'The kernel file cannot be opened.' })),
  );
  await assert.rejects(api.call(CALL), (error) => {
    assert.ok(error instanceof VmmFaultError);
    assert.equal(error.status, 400);
    assert.equal(error.fault, 'The kernel file cannot be opened.');
    assert.match(error.message, /PUT \/vm/);
    return true;
  });
});

test('faults are read in every form in which VMMs give them', () => {
  assert.equal(faultOf('{"fault_message":"No\\n kernel."}'), 'No kernel.');
  assert.equal(faultOf('["Error from API","The VM could not boot"]'), 'Error from API: The VM could not boot');
  assert.equal(faultOf('plain words'), 'plain words');
  assert.equal(faultOf('{"error":"so"}'), 'so');
  assert.equal(faultOf(''), 'it does not say why');
  assert.equal(faultOf('x'.repeat(5000)).length, 1000);
});

test('a slow answer ends at the deadline', async (t) => {
  const api = await serve(t, () => undefined);
  const startedAt = performance.now();
  await assert.rejects(api.call({ ...CALL, deadlineMs: 60 }), (error) => {
    assert.ok(error instanceof VmmUnavailableError);
    assert.match(error.message, /60 ms/);
    return true;
  });
  assert.ok(performance.now() - startedAt < 3000);
});

test('an abort throws its reason', async (t) => {
  const api = await serve(t, () => undefined);
  const reason = new Error('not wanted any more');
  const abort = new AbortController();
  const call = api.call(CALL, abort.signal);
  setTimeout(() => abort.abort(reason), 30);
  await assert.rejects(call, reason);
  await assert.rejects(api.call(CALL, AbortSignal.abort(reason)), reason);
});

for (const [what, text] of [
  ['is cut off in its body', 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"state":'],
  ['is cut off in its headers', 'HTTP/1.1 200 OK\r\nContent-Le'],
  ['never comes', ''],
  ['is no HTTP', 'SSH-2.0-OpenSSH\r\n'],
  ['is no JSON', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{"a":'],
] as const)
  test(`an answer that ${what} is told`, async (t) => {
    const api = await serveRaw(t, (socket) => socket.end(text));
    await assert.rejects(api.call(CALL), VmmUnavailableError);
  });

test('nobody behind the socket is told', async (t) => {
  await assert.rejects(new VmmApi(await socketFor(t)).call(CALL), VmmUnavailableError);
});

test('a socket is waited for; a process that is gone ends the wait at once, and so does the time', async (t) => {
  const path = await socketFor(t);
  await assert.rejects(
    awaitSocket(path, () => false),
    /ended before/,
  );
  await assert.rejects(
    awaitSocket(path, () => true, { deadlineMs: 40 }),
    /within 40 ms/,
  );
  const reason = new Error('given up');
  await assert.rejects(
    awaitSocket(path, () => true, {}, AbortSignal.abort(reason)),
    reason,
  );
  const server = createServer();
  t.after(() => server.close());
  setTimeout(() => server.listen(path), 50);
  await awaitSocket(path, () => true);
});
