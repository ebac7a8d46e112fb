import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { runCommand } from '@nestbox/kit';
import { type CommandHandle, Sandbox } from 'e2b';
import { forEachAddressing } from '../support/each-addressing.ts';
import { openWebSocketByHost, requestByHost } from '../support/edge-request.ts';

/** What stands for the port in `maskRequestHost`. */
const PORT = ['$', '{PORT}'].join('');

/** Answers what it was asked, and echoes WebSocket messages by the part of RFC 6455 that the test needs. */
const SERVER_IN_SANDBOX = `
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
const [, , port, address, pem] = process.argv;
const certificate = pem && readFileSync(pem);
const server = (pem ? createTlsServer : createServer)(pem ? { key: certificate, cert: certificate } : {}, (request, response) => {
  const hash = createHash('sha256');
  let bytes = 0;
  request.on('data', (piece) => { hash.update(piece); bytes += piece.length; });
  request.on('end', () => {
    response.writeHead(request.url === '/teapot' ? 418 : 200, { 'content-type': 'application/json', 'x-from': 'sandbox' });
    response.end(JSON.stringify({ method: request.method, url: request.url, host: request.headers.host, bytes, hash: hash.digest('hex') }));
  });
});
server.on('upgrade', (request, socket) => {
  const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
  const accept = createHash('sha1').update(key).digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: ' + accept + '\\r\\n\\r\\n');
  let held = Buffer.alloc(0);
  socket.on('error', () => {});
  socket.on('data', (piece) => {
    held = Buffer.concat([held, piece]);
    while (held.length >= 6) {
      const length = held[1] & 0x7f;
      if (held.length < 6 + length) return;
      const mask = held.subarray(2, 6);
      const text = Buffer.from(held.subarray(6, 6 + length).map((byte, index) => byte ^ mask[index % 4]));
      if ((held[0] & 0x0f) === 8) { socket.end(Buffer.concat([Buffer.from([0x88, length]), text])); return; }
      const answer = Buffer.from('echo ' + request.url + ' ' + text);
      socket.write(Buffer.concat([Buffer.from([0x81, answer.length]), answer]));
      held = held.subarray(6 + length);
    }
  });
});
server.listen(Number(port), address, () => console.log('listening'));
`;

/** As a form, the way browsers and the client send a file. */
async function postFile(edgeUrl: string, host: string, url: URL, content: string, name: string) {
  const form = new FormData();
  form.append('file', new Blob([content]), name);
  const encoded = new Response(form);
  return await requestByHost(edgeUrl, host, `${url.pathname}${url.search}`, {
    method: 'POST',
    headers: { 'Content-Type': encoded.headers.get('content-type') ?? '' },
    body: new Uint8Array(await encoded.arrayBuffer()),
  });
}

forEachAddressing('servers in a sandbox, reached from outside', { sandbox: {} }, (suite) => {
  /** Resolves when the server in the sandbox listens. */
  async function serve(port: number, address: string, sandbox = suite.sandbox, pem = ''): Promise<CommandHandle> {
    const { files, commands } = sandbox;
    await files.write('/tmp/server.mjs', SERVER_IN_SANDBOX);
    const { promise: listening, resolve, reject } = Promise.withResolvers<void>();
    const handle = await commands.run(`node /tmp/server.mjs ${port} ${address} ${pem}`, {
      background: true,
      timeoutMs: 0,
      onStdout: () => resolve(),
      onStderr: (text) => reject(new Error(text)),
    });
    await listening;
    return handle;
  }

  test('an HTTP server answers by its host name, with path, method, status and headers kept', async () => {
    const server = await serve(8080, '0.0.0.0');
    const host = suite.sandbox.getHost(8080);
    assert.match(host, new RegExp(`^8080-${suite.sandbox.sandboxId}\\.`));
    const body = Buffer.alloc(3_000_000, 'x');
    const answer = await requestByHost(suite.edgeUrl, host, '/a/b//c/?q=%2F&r=1', { method: 'PUT', body });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers['x-from'], 'sandbox');
    const seen: unknown = JSON.parse(answer.body);
    assert.partialDeepStrictEqual(seen, { method: 'PUT', url: '/a/b//c/?q=%2F&r=1', host, bytes: 3_000_000 });
    assert.equal((await requestByHost(suite.edgeUrl, host, '/teapot')).status, 418);
    await server.kill();
  });

  test('an HTTP server answers by routing headers', async () => {
    const server = await serve(8081, '0.0.0.0');
    const response = await fetch(`${suite.edgeUrl}/by-header`, {
      headers: { 'E2b-Sandbox-Id': suite.sandbox.sandboxId, 'E2b-Sandbox-Port': '8081' },
    });
    assert.equal(response.status, 200);
    assert.partialDeepStrictEqual(await response.json(), { method: 'GET', url: '/by-header' });
    await server.kill();
  });

  test('a server that listens on localhost only is reached too', async () => {
    const server = await serve(8082, '127.0.0.1');
    const host = suite.sandbox.getHost(8082);
    // Its forwarder follows within a second or two (envd interface, "Port forwarding"); until then the port is not open.
    const deadline = Date.now() + 20_000;
    let answer = await requestByHost(suite.edgeUrl, host, '/');
    while (answer.status === 502 && Date.now() < deadline) answer = await requestByHost(suite.edgeUrl, host, '/');
    assert.equal(answer.status, 200, answer.body);
    await server.kill();
  });

  test('a WebSocket server is reached by host name, and messages keep their order', async () => {
    const server = await serve(8083, '0.0.0.0');
    const socket = openWebSocketByHost(suite.edgeUrl, suite.sandbox.getHost(8083), '/chat?room=1');
    await once(socket, 'open');
    const heard: string[] = [];
    const { promise: complete, resolve } = Promise.withResolvers<void>();
    socket.on('message', (data) => {
      heard.push(String(data));
      if (heard.length === 20) resolve();
    });
    for (let index = 0; index < 20; index++) socket.send(`message ${index}`);
    await complete;
    assert.deepEqual(
      heard,
      Array.from({ length: 20 }, (_, index) => `echo /chat?room=1 message ${index}`),
    );
    socket.close();
    await once(socket, 'close');
    await server.kill();
  });

  test('a port that nobody listens on, a sandbox that is not there and a host name of nobody are told', async () => {
    const { edgeUrl } = suite;
    const { sandboxId, sandboxDomain } = suite.sandbox;
    const closed = await requestByHost(edgeUrl, suite.sandbox.getHost(9), '/');
    assert.equal(closed.status, 502);
    const body: unknown = JSON.parse(closed.body);
    assert.partialDeepStrictEqual(body, { sandboxId, port: 9 });
    const absent = await requestByHost(edgeUrl, `80-i${'0'.repeat(20)}.${sandboxDomain}`, '/');
    assert.equal(absent.status, 502);
    assert.match(absent.body, new RegExp(`i${'0'.repeat(20)}`));
    const hosts = [sandboxDomain, `0-abc.${sandboxDomain}`, `99999-abc.${sandboxDomain}`];
    // What no client could resolve comes by the header alone.
    if (suite.addressing === 'urls') hosts.push('example.test', '0-abc.example.test', '-.-', '80-../..');
    for (const host of hosts)
      assert.ok([400, 404, 502].includes((await requestByHost(edgeUrl, host, '/')).status), host);
  });

  test('what only the host may ask of the guest agent is not there for others', async () => {
    for (const path of ['/init', '/freeze', '/snapshot/prepare', '//init', '/x/../init']) {
      const answer = await requestByHost(suite.edgeUrl, suite.sandbox.getHost(49_983), path, {
        method: 'POST',
        body: '{}',
      });
      assert.equal(answer.status, 404, path);
    }
  });

  test('signed URLs let a file in and out without a token, and nothing else', async () => {
    const { edgeUrl } = suite;
    // With E2B_SANDBOX_URL the client leaves the sandbox out of the URL; the host name puts it back.
    const hostOf = (url: URL) => (suite.addressing === 'urls' ? suite.sandbox.getHost(49_983) : url.host);
    const upload = new URL(await suite.sandbox.uploadUrl('/home/user/signed.txt', { useSignatureExpiration: 60 }));
    const posted = await postFile(edgeUrl, hostOf(upload), upload, 'by a signed URL', 'signed.txt');
    assert.equal(posted.status, 200, posted.body);
    assert.equal(await suite.sandbox.files.read('/home/user/signed.txt'), 'by a signed URL');

    const download = new URL(await suite.sandbox.downloadUrl('/home/user/signed.txt'));
    const path = `${download.pathname}${download.search}`;
    const host = hostOf(download);
    const got = await requestByHost(edgeUrl, host, path);
    assert.deepEqual([got.status, got.body], [200, 'by a signed URL']);
    const other = path.replace('signed.txt', '.bashrc');
    assert.notEqual(other, path);
    assert.equal((await requestByHost(edgeUrl, host, other)).status, 401);
    const expired = new URL(await suite.sandbox.downloadUrl('/home/user/signed.txt', { useSignatureExpiration: -10 }));
    const refused = await requestByHost(edgeUrl, hostOf(expired), `${expired.pathname}${expired.search}`);
    assert.equal(refused.status, 401);
  });

  test('ports of a sandbox whose traffic is not public want its token; applications see the host that was asked for', async () => {
    const { edgeUrl } = suite;
    const sandbox = await suite.createSandbox({
      network: { allowPublicTraffic: false, maskRequestHost: `app.example:${PORT}` },
    });
    const token = sandbox.trafficAccessToken;
    assert.ok(token);
    await serve(8084, '0.0.0.0', sandbox);
    const host = sandbox.getHost(8084);
    assert.equal((await requestByHost(edgeUrl, host, '/')).status, 403);
    const wrong = { 'e2b-traffic-access-token': `${token}x` };
    assert.equal((await requestByHost(edgeUrl, host, '/', { headers: wrong })).status, 403);
    const headers = { 'e2b-traffic-access-token': token };
    const answer = await requestByHost(edgeUrl, host, '/in', { headers });
    assert.equal(answer.status, 200, answer.body);
    const seen: unknown = JSON.parse(answer.body);
    assert.partialDeepStrictEqual(seen, { url: '/in', host: 'app.example:8084' });
    // The client itself goes on without being told, and another one gets the same token.
    assert.equal(await sandbox.isRunning(), true);
    const joined = await Sandbox.connect(sandbox.sandboxId, suite.connection);
    assert.equal(joined.trafficAccessToken, token);
    await sandbox.kill();
  });

  test('a port that speaks TLS in the sandbox is reached as any other, whatever its certificate', async () => {
    const sandbox = await suite.createSandbox({ network: { httpsPorts: [8443] } });
    const { stdout: pem } = await runCommand('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', '/CN=own'],
      // Both to standard output.
      ...['-keyout', '-'],
    ]);
    await sandbox.files.write('/tmp/own.pem', pem);
    await serve(8443, '0.0.0.0', sandbox, '/tmp/own.pem');
    const answer = await requestByHost(suite.edgeUrl, sandbox.getHost(8443), '/by-tls');
    assert.equal(answer.status, 200, answer.body);
    assert.partialDeepStrictEqual(JSON.parse(answer.body) as unknown, { url: '/by-tls' });
    assert.partialDeepStrictEqual((await sandbox.getInfo()).network, { httpsPorts: [8443] });
    await sandbox.kill();
  });

  test('signed URLs are for the user they name, and uploads may choose their path', async () => {
    const { sandbox, edgeUrl } = suite;
    const hostOf = (url: URL) => (suite.addressing === 'urls' ? sandbox.getHost(49_983) : url.host);
    const upload = new URL(await sandbox.uploadUrl(undefined, { user: 'root' }));
    const posted = await postFile(edgeUrl, hostOf(upload), upload, 'chosen', '/root/chosen.txt');
    assert.equal(posted.status, 200, posted.body);
    const download = new URL(await sandbox.downloadUrl('chosen.txt', { user: 'root' }));
    const path = `${download.pathname}${download.search}`;
    assert.equal((await requestByHost(edgeUrl, hostOf(download), path)).body, 'chosen');
    const other = path.replace('username=root', 'username=user');
    assert.notEqual(other, path);
    assert.equal((await requestByHost(edgeUrl, hostOf(download), other)).status, 401);
  });

  // What a sandbox may reach does not depend on how clients reach it.
  if (suite.addressing === 'domain') return;

  test('a sandbox reaches no server of this machine and no other sandbox', async (t) => {
    const closed = await suite.createSandbox({ allowInternetAccess: false });
    // A real listener on every address: what keeps the sandbox away from it is not that nobody answers.
    const listener = createServer((socket) => socket.end('reached')).listen(0, '0.0.0.0');
    t.after(() => listener.close());
    await once(listener, 'listening');
    const { port } = listener.address() as AddressInfo;
    const hostAddresses = Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .filter(({ family }) => family === 'IPv4')
      .map(({ address }) => `${address}/${port}`);
    const sandboxAddresses = (await slotAddresses(suite.paths.instance)).map((address) => `${address}/49983`);
    assert.ok(hostAddresses.length >= 2 && sandboxAddresses.length >= 2);
    for (const sandbox of [suite.sandbox, closed]) {
      const targets = [`169.254.0.22/${port}`, ...hostAddresses, ...sandboxAddresses].filter(
        // Inside, the loopback address is the sandbox's own.
        (target) => !target.startsWith('127.'),
      );
      const probes = targets.map(
        (target) => `(timeout 3 bash -c 'exec 3<>/dev/tcp/${target}' 2>/dev/null && echo ${target}) &`,
      );
      const { stdout } = await sandbox.commands.run(`${probes.join('\n')}\nwait`);
      // Its own address by which the host reaches it may lead back to itself.
      const reached = stdout.split('\n').filter((line) => line !== '');
      assert.ok(reached.length <= 1 && reached.every((target) => sandboxAddresses.includes(target)), stdout);
    }
    assert.equal((await closed.getInfo()).allowInternetAccess, false);
    await closed.kill();
  });
});

/** Where the host reaches the sandboxes of an installation. */
async function slotAddresses(instance: string): Promise<string[]> {
  const { stdout } = await runCommand('ip', ['-4', '-json', 'route', 'show']);
  const routes: { dst: string; dev?: string }[] = JSON.parse(stdout);
  return routes.filter(({ dst, dev }) => dev?.includes(instance) && !dst.includes('/')).map(({ dst }) => dst);
}
