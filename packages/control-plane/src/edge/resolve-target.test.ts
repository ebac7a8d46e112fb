import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, get, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { echo, edgeError, Stage } from '../testing/edge-stage.ts';
import { HostDouble } from '../testing/host-double.ts';
import { startTestServer } from '../testing/start-test-server.ts';

describe('the way to a sandbox', () => {
  test('leads by the routing headers, and they win over the host name', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo(seen));
    const answer = await stage.fetch('/a/b/../c//d/?q=%20&r=/', {
      method: 'POST',
      body: 'hello',
      headers: { Host: '1-i.x' },
    });
    assert.equal(await answer.text(), 'hello');
    await stage.fetch('/', {}, 65_535);
    assert.deepEqual(
      seen.map(({ url }) => url),
      // `fetch` itself applies the dot segments.
      [`/proxy/${stage.sandboxId}/8080/a/c//d/?q=%20&r=/`, `/proxy/${stage.sandboxId}/65535/`],
    );
  });

  test('leads by the host name, in any case, with a port behind it, and the path goes through as it is', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo(seen));
    for (const host of [stage.hostName, stage.hostName.toUpperCase(), `${stage.hostName}:3001`]) {
      const answer = await stage.raw(`GET /x/../%2e/y?z HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      assert.match(answer, /^HTTP\/1\.1 200 /);
      assert.equal(seen.at(-1)?.url, `/proxy/${stage.sandboxId}/8080/x/../%2e/y?z`);
      assert.equal(seen.at(-1)?.headers.host, host);
    }
  });

  test('takes the absolute form of a request target, and refuses what is no path', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo(seen));
    const head = `Host: ${stage.hostName}\r\nConnection: close\r\n\r\n`;
    assert.match(await stage.raw(`GET http://other/x?y HTTP/1.1\r\n${head}`), /^HTTP\/1\.1 200 /);
    assert.equal(seen[0]?.url, `/proxy/${stage.sandboxId}/8080/x?y`);
    assert.match(await stage.raw(`GET http://other?y HTTP/1.1\r\n${head}`), /^HTTP\/1\.1 200 /);
    assert.equal(seen[1]?.url, `/proxy/${stage.sandboxId}/8080/?y`);
    assert.match(await stage.raw(`OPTIONS * HTTP/1.1\r\n${head}`), /^HTTP\/1\.1 400 /);
  });

  test('is a 400 when the address is none', async () => {
    await using stage = await Stage.open(echo());
    const { sandboxId } = stage;
    for (const headers of [
      {},
      { Host: 'sandboxes.example' },
      { Host: `0-${sandboxId}.x` },
      { Host: `65536-${sandboxId}.x` },
      { Host: `-${sandboxId}.x` },
      { Host: `80-${sandboxId}` },
      { 'E2b-Sandbox-Id': sandboxId },
      { 'E2b-Sandbox-Port': '80' },
      { 'E2b-Sandbox-Id': sandboxId, 'E2b-Sandbox-Port': '0' },
      { 'E2b-Sandbox-Id': sandboxId, 'E2b-Sandbox-Port': '-80' },
      { 'E2b-Sandbox-Id': sandboxId, 'E2b-Sandbox-Port': '99999' },
      { 'E2b-Sandbox-Id': '../../etc', 'E2b-Sandbox-Port': '80' },
      { 'E2b-Sandbox-Id': 'x'.repeat(5000), 'E2b-Sandbox-Port': '80' },
    ]) {
      const lines = Object.entries({ Host: 'x', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
      const answer = await stage.raw(`GET / HTTP/1.1\r\n${lines.join('')}Connection: close\r\n\r\n`);
      assert.match(answer, /^HTTP\/1\.1 400 /, JSON.stringify(headers).slice(0, 80));
      assert.equal(edgeError.parse(JSON.parse(answer.split('\r\n\r\n')[1] ?? '')).error_code, 'invalid_request');
    }
  });

  test('is a 502 in the known form when the sandbox does not run, and a browser may read it', async () => {
    await using stage = await Stage.open(echo());
    for (const headers of [
      { 'E2b-Sandbox-Id': 'iunknown', 'E2b-Sandbox-Port': '80' },
      { Host: '80-iunknown.example' },
    ]) {
      const answer = await new Promise<IncomingMessage>((resolve) => get(stage.server.edgeUrl, { headers }, resolve));
      assert.equal(answer.statusCode, 502);
      assert.equal(answer.headers['access-control-allow-origin'], '*');
      assert.deepEqual(JSON.parse(await text(answer)), {
        sandboxId: 'iunknown',
        port: 80,
        message: 'The sandbox was not found',
        code: 502,
        error_code: 'sandbox_not_found',
      });
    }
    await stage.fetch('/');
    await stage.server.api(`/sandboxes/${stage.sandboxId}`, { method: 'DELETE' });
    assert.equal((await stage.fetch('/')).status, 502);
  });

  test("is a 503 when the host's proxy is not there", async () => {
    await using stage = await Stage.open(echo());
    await stage.host[Symbol.asyncDispose]();
    const answer = await stage.fetch('/');
    assert.equal(answer.status, 503);
    assert.partialDeepStrictEqual(await answer.json(), {
      error_code: 'host_unavailable',
      sandboxId: stage.sandboxId,
      port: 8080,
    });
    const upload = await stage.fetch('/', { method: 'POST', body: Buffer.alloc(4_000_000) });
    assert.equal(upload.status, 503);
  });

  test('does not lead to routes of the guest agent that only the host may call', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo(seen));
    const head = `Host: 49983-${stage.sandboxId}.x\r\nConnection: close\r\n\r\n`;
    for (const path of [
      '/init',
      '/./init',
      '//init',
      '/%69nit',
      '/x/../snapshot//prepare?x',
      'http://x/freeze',
      '/%2569nit',
    ])
      assert.match(await stage.raw(`POST ${path} HTTP/1.1\r\nContent-Length: 0\r\n${head}`), /^HTTP\/1\.1 404 /, path);
    assert.equal(seen.length, 0);
    assert.match(await stage.raw(`GET /health HTTP/1.1\r\n${head}`), /^HTTP\/1\.1 200 /);
    assert.equal((await stage.fetch('/init')).status, 200);
  });

  test('asks for the traffic token when traffic is not public, but not on the port of the guest agent', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo(seen), { network: { allowPublicTraffic: false } });
    for (const headers of [{}, { 'e2b-traffic-access-token': '' }, { 'e2b-traffic-access-token': 'wrong' }]) {
      const answer = await stage.fetch('/', { headers });
      assert.equal(answer.status, 403);
      assert.equal(edgeError.parse(await answer.json()).sandboxId, stage.sandboxId);
    }
    assert.equal((await stage.fetch('/', {}, 49_983)).status, 200);
    assert.equal((await stage.fetch('/', { headers: { 'e2b-traffic-access-token': stage.trafficToken } })).status, 200);
    assert.equal(seen.length, 2);
    assert.equal(seen.at(-1)?.headers['e2b-traffic-access-token'], undefined, 'the guest does not learn the token');
  });
});

describe('a proxy at a host and port', () => {
  test('is reached like one at a unix socket', async () => {
    await using host = await new HostDouble().open();
    const seen: string[] = [];
    const proxy = createServer((incoming, response) => {
      seen.push(incoming.url ?? '');
      response.end('over TCP');
    }).listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    const address = proxy.address();
    assert.ok(typeof address === 'object' && address !== null);
    try {
      const proxyAddress = { host: '127.0.0.1', port: address.port };
      await using server = await startTestServer([host], { hosts: [{ ...host.connection, proxyAddress }] });
      const created = await server.send('POST', '/v2/sandboxes', { templateID: 'base' });
      const { sandboxID } = z.object({ sandboxID: z.string() }).parse(await created.json());
      const headers = { 'E2b-Sandbox-Id': sandboxID, 'E2b-Sandbox-Port': '80' };
      assert.equal(await (await fetch(`${server.edgeUrl}/x`, { headers })).text(), 'over TCP');
      assert.deepEqual(seen, [`/proxy/${sandboxID}/80/x`]);
    } finally {
      proxy.closeAllConnections();
      proxy.close();
    }
  });
});
