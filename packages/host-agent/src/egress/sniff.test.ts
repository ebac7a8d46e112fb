import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import fc from 'fast-check';
import { readClientHello } from './client-hello.ts';
import { readHttpHead } from './http-head.ts';
import { sniff } from './sniff.ts';

/** The first bytes that a real client sends. */
async function realHello(servername: string | undefined): Promise<Buffer> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const raw = connect(address.port, '127.0.0.1');
  const client = connectTls({ socket: raw, ...(servername === undefined ? {} : { servername }) });
  client.on('error', () => undefined);
  const [socket] = await once(server, 'connection');
  const [data] = await once(socket, 'data');
  client.destroy();
  socket.destroy();
  server.close();
  return data;
}

/** The same message in records of so many bytes. */
function inRecords(hello: Buffer, size: number): Buffer {
  const message = hello.subarray(5);
  const records: Buffer[] = [];
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size);
    records.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 0xff]), part);
  }
  return Buffer.concat(records);
}

/** Adds an extension at the end. */
function withExtension(hello: Buffer, type: number, body: Buffer): Buffer {
  const extension = Buffer.concat([Buffer.alloc(4), body]);
  extension.writeUInt16BE(type, 0);
  extension.writeUInt16BE(body.length, 2);
  const longer = Buffer.concat([hello, extension]);
  longer.writeUInt16BE(longer.length - 5, 3);
  longer.writeUIntBE(longer.length - 9, 6, 3);
  let at = 9 + 2 + 32;
  at += 1 + (longer[at] ?? 0);
  at += 2 + longer.readUInt16BE(at);
  at += 1 + (longer[at] ?? 0);
  longer.writeUInt16BE(longer.readUInt16BE(at) + extension.length, at);
  return longer;
}

test('the name in a real client’s hello is read, whole or split in any way, and not a byte too early', async () => {
  const hello = await realHello('api.Example.com');
  const named = { kind: 'named', protocol: 'tls', name: 'api.example.com' };
  assert.deepEqual(readClientHello(hello), named);
  for (const size of [60, 100, 333, 16_000])
    assert.deepEqual(readClientHello(inRecords(hello, size)), named, String(size));
  for (let length = 0; length < hello.length; length++)
    assert.deepEqual(sniff(hello.subarray(0, length)), { kind: 'incomplete' }, String(length));
  assert.deepEqual(sniff(Buffer.concat([hello, Buffer.from('what follows')])), named);
});

test('a hello without a name, with two, with ECH, or with an address is refused', async () => {
  const nameless = await realHello(undefined);
  const named = await realHello('a.example');
  const sni = (name: string) =>
    Buffer.concat([Buffer.from([0, name.length + 3, 0, 0, name.length]), Buffer.from(name)]);
  const cases: [Buffer, RegExp][] = [
    [nameless, /names no server/],
    [withExtension(named, 0, sni('b.example')), /twice/],
    [withExtension(named, 0xfe0d, Buffer.from('secret')), /encrypted/],
    [withExtension(nameless, 0, sni('1.2.3.4')), /is none/],
    [withExtension(nameless, 0, sni('a\0b.example')), /is none/],
    [withExtension(nameless, 0, Buffer.from([0, 200, 0])), /broken/],
  ];
  for (const [data, why] of cases) {
    const result = readClientHello(data);
    assert.ok(result.kind === 'refused' && why.test(result.why), JSON.stringify(result));
  }
});

test('whatever comes instead of a hello or a head is refused or waited for in bounds, and nothing throws', async () => {
  const hello = await realHello('a.example');
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      sniff(Buffer.from(bytes));
      readClientHello(Buffer.concat([Buffer.from([22, 3, 1, 1, 0]), Buffer.from(bytes)]));
      readHttpHead(Buffer.from(bytes));
    }),
  );
  // One byte of a real one changed.
  fc.assert(
    fc.property(fc.nat(hello.length - 1), fc.nat(255), (at, value) => {
      const changed = Buffer.from(hello);
      changed[at] = value;
      sniff(changed);
    }),
  );
  // Pieces that would cost more to put together than to send.
  const crumbs = sniff(
    inRecords(Buffer.concat([hello.subarray(0, 6), Buffer.from([0, 255, 255]), Buffer.alloc(60_000)]), 1),
  );
  assert.ok(crumbs.kind === 'refused' && /too many pieces/.test(crumbs.why));
  const long = sniff(Buffer.from([22, 3, 1, 0, 4, 1, 255, 255, 255]));
  assert.ok(long.kind === 'refused' && /too long/.test(long.why));
  assert.equal(sniff(Buffer.from(`GET / HTTP/1.1\r\nX: ${'x'.repeat(70_000)}`)).kind, 'refused');
  for (const text of ['SSH-2.0-OpenSSH\r\n', '\0\0\0', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'get / HTTP/1.1\r\n'])
    assert.equal(sniff(Buffer.from(text)).kind, 'refused', text);
});

test('the host of an HTTP request is read, and the request goes on as the only one of its connection', () => {
  const text =
    'POST /x?y HTTP/1.1\r\nHost: API.example.com:8080\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\n';
  const result = readHttpHead(Buffer.from(`${text}body`));
  assert.ok(result.kind === 'named' && result.protocol === 'http');
  assert.equal(result.name, 'api.example.com');
  assert.equal(result.headBytes, text.length);
  assert.equal(
    result.head.toString(),
    'POST /x?y HTTP/1.1\r\nHost: API.example.com:8080\r\nContent-Length: 4\r\nConnection: close\r\n\r\n',
  );
  for (let length = 0; length < text.length; length++)
    assert.equal(sniff(Buffer.from(text.slice(0, length))).kind, 'incomplete');
  const socket = readHttpHead(
    Buffer.from('GET / HTTP/1.1\r\nHost: a.b\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n'),
  );
  assert.ok(socket.kind === 'named' && socket.protocol === 'http');
  assert.match(socket.head.toString(), /Connection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n$/);
  const h2c = readHttpHead(Buffer.from('GET / HTTP/1.1\r\nHost: a.b\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n'));
  assert.ok(h2c.kind === 'named' && h2c.protocol === 'http' && !/upgrade/i.test(h2c.head.toString()));
});

test('a head in which somebody could read another host is refused', () => {
  const heads = [
    'GET / HTTP/1.1\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: a.b\r\nHost: c.d\r\n\r\n',
    'GET http://c.d/ HTTP/1.1\r\nHost: a.b\r\n\r\n',
    'GET http://a.b@c.d/ HTTP/1.1\r\nHost: a.b\r\n\r\n',
    'CONNECT c.d:443 HTTP/1.1\r\nHost: a.b\r\n\r\n',
    'GET / HTTP/1.1\r\nHost : a.b\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: a.b\r\n continued\r\n\r\n',
    'GET / HTTP/1.1\r\nX: y\nHost: c.d\r\nHost: a.b\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: 1.2.3.4\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: a.b, c.d\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n',
    'GET  / HTTP/1.1\r\nHost: a.b\r\n\r\n',
    'GET / HTTP/1.1 \r\nHost: a.b\r\n\r\n',
    'GET a.b HTTP/1.1\r\nHost: a.b\r\n\r\n',
    'GET / HTTP/2.0\r\nHost: a.b\r\n\r\n',
  ];
  for (const head of heads) assert.equal(sniff(Buffer.from(head)).kind, 'refused', JSON.stringify(head));
});
