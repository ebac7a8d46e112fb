import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { createSandbox, until } from './testing/api-answers.ts';
import { HostDouble } from './testing/host-double.ts';
import { startTestServer, TEST_API_KEY, type TestServer } from './testing/start-test-server.ts';

const GRACE_MS = 30_000;

/** A create whose host does not answer yet, and what lets it answer. */
async function heldCreate(server: TestServer, host: HostDouble) {
  const { promise, resolve } = Promise.withResolvers<void>();
  host.createGate = promise;
  const answer = server.send('POST', '/sandboxes', { templateID: 'base', timeout: 60 });
  answer.catch(() => undefined);
  await host.until(() => host.created.length === 1);
  return { answer, letPass: resolve };
}

async function isListening(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

describe('a server that is told to end', () => {
  test('answers the create that is under way, takes no new connection, and waits for nothing else', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { stopTimeoutMs: GRACE_MS });
    const { answer, letPass } = await heldCreate(server, host);
    const begunMs = performance.now();
    const stopped = server.stop();
    await until(async () => !(await isListening(server.apiUrl)) && !(await isListening(server.edgeUrl)));
    letPass();
    const created = await answer;
    assert.deepEqual([created.status, created.headers.get('connection')], [201, 'close']);
    await stopped;
    assert.ok(performance.now() - begunMs < GRACE_MS / 2);
    assert.deepEqual([host.sandboxes.size, host.destroyed], [1, []]);
  });

  test('undoes the create that takes too long', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { stopTimeoutMs: 50 });
    const { answer } = await heldCreate(server, host);
    await server.stop();
    await assert.rejects(answer);
    const [request] = host.created;
    assert.deepEqual([host.sandboxes.size, host.destroyed], [0, [request?.sandboxId]]);
  });

  test('still answers what comes on a connection that is there, and says that it ends', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { stopTimeoutMs: GRACE_MS });
    const held = await heldCreate(server, host);
    const { hostname, port } = new URL(server.apiUrl);
    const socket = connect(Number(port), hostname);
    const ask = () => socket.write(`GET /v2/sandboxes HTTP/1.1\r\nHost: x\r\nX-API-Key: ${TEST_API_KEY}\r\n\r\n`);
    ask();
    const [first] = await once(socket, 'data');
    assert.match(String(first), /^HTTP\/1\.1 200 /);
    assert.match(String(first), /connection: keep-alive/i);
    const stopped = server.stop();
    await until(async () => !(await isListening(server.apiUrl)));
    ask();
    const rest = await text(socket);
    assert.match(rest, /^HTTP\/1\.1 200 /);
    assert.match(rest, /connection: close/i);
    held.letPass();
    await stopped;
  });

  test('ends idle connections at once, and tunnels with what was written to them', async () => {
    await using host = await new HostDouble().open();
    host.proxy.on('upgrade', (_request, socket) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello');
      socket.on('error', () => socket.destroy());
    });
    await using server = await startTestServer([host], { stopTimeoutMs: GRACE_MS });
    const id = await createSandbox(server);
    const agent = new Agent({ keepAlive: true });
    const idle = request(`${server.apiUrl}/health`, { agent }).end();
    const [response] = (await once(idle, 'response')) as [IncomingMessage];
    response.resume();
    await once(response, 'end');
    const upgrading = request(server.edgeUrl, {
      headers: { 'E2b-Sandbox-Id': id, 'E2b-Sandbox-Port': '80', Connection: 'Upgrade', Upgrade: 'websocket' },
    }).end();
    const [, tunnel, first] = await once(upgrading, 'upgrade');
    const received = [first.toString()];
    tunnel.on('data', (chunk: Buffer) => received.push(chunk.toString()));
    const tunnelEnded = once(tunnel, 'end');
    const begunMs = performance.now();
    await server.stop();
    await tunnelEnded;
    assert.equal(received.join(''), 'hello');
    assert.ok(performance.now() - begunMs < 2000);
    agent.destroy();
  });

  test('gives a request to a sandbox two seconds, as a pause does', async () => {
    let finish: (() => void) | undefined;
    await using host = await new HostDouble().open((_request, response) => {
      response.write('begun,');
      finish = () => response.end('done');
    });
    await using server = await startTestServer([host], { stopTimeoutMs: 0 });
    const id = await createSandbox(server);
    const answer = await fetch(server.edgeUrl, { headers: { 'E2b-Sandbox-Id': id, 'E2b-Sandbox-Port': '80' } });
    const stopped = server.stop();
    finish?.();
    assert.equal(await answer.text(), 'begun,done');
    await stopped;

    await using again = await startTestServer([host], { stopTimeoutMs: 0 });
    const other = await createSandbox(again);
    const cut = await fetch(again.edgeUrl, { headers: { 'E2b-Sandbox-Id': other, 'E2b-Sandbox-Port': '80' } });
    const begunMs = performance.now();
    await again.stop();
    const tookMs = performance.now() - begunMs;
    assert.ok(tookMs >= 1900 && tookMs < 10_000, `${tookMs}`);
    await assert.rejects(cut.text());
  });
});
