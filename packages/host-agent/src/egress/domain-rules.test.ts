import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtemp, readFile } from 'node:fs/promises';
import { createServer as createHttpServer } from 'node:http';
import { createServer, Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { after, before, suite, test } from 'node:test';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { type EgressSettings, GUEST_NETWORK, parseEgressRules, parseIpv4 } from '@nestbox/contract';
import { createLogger, runCommand } from '@nestbox/kit';
import packet, { type Answer } from 'dns-packet';
import type { NetworkSlot } from '../network/network.ts';
import { createSandboxNetworks } from '../network/sandbox-networks.ts';
import { FakeGuest } from '../network/testing/fake-guest.ts';
import { HOST_PUBLIC, makeOutsideWorld, PRIVATE_SERVER } from '../network/testing/outside-world.ts';
import { insidePrivateHost } from '../network/testing/private-host.ts';
import type { EgressDenial } from './denials.ts';
import { GuardedNetworks } from './guarded-networks.ts';
import { NamespaceSockets, SocketError } from './namespace-sockets.ts';

const logger = createLogger({ level: 'error' });
const SANDBOX_ID = 'i00000000000000000001';
const RESOLVER = '203.0.113.54';
const GOOD = '203.0.113.20';
const EVIL = '203.0.113.21';
const SAFETY_MS = 8000;
const PORTS = { http: 80, tls: 443, otherTls: 8443, otherTcp: 22 } as const;

/** What the world's resolver says. */
const ZONE: Readonly<Record<string, readonly string[]>> = {
  'good.example': [GOOD],
  'www.good.example': [GOOD],
  'evil.example': [EVIL],
  'rebound.example': [PRIVATE_SERVER],
  'half.example': [PRIVATE_SERVER, GOOD],
  'host.example': [HOST_PUBLIC],
};

if (insidePrivateHost(import.meta.filename))
  suite('rules with names', () => {
    const undo = new AsyncDisposableStack();
    const sockets = new NamespaceSockets();
    const denials: EgressDenial[] = [];
    const asked: string[] = [];
    let certificate: { key: string; cert: string };
    let networks: GuardedNetworks;
    let slot: NetworkSlot;
    let guest: FakeGuest;

    before(async () => {
      const outside = await makeOutsideWorld();
      undo.defer(() => outside.stop());
      for (const address of [RESOLVER, GOOD, EVIL])
        await runCommand('ip', ['-n', 'outside', 'addr', 'add', `${address}/32`, 'dev', 'lo']);
      certificate = await makeCertificate();
      serveZone();
      for (const address of [GOOD, EVIL]) serveWorld(address);
      networks = await makeNetworks();
      undo.defer(() => networks.close());
      slot = await networks.acquire();
      undo.defer(() => networks.release(slot));
      guest = await FakeGuest.boot(slot);
      undo.defer(() => guest.powerOff());
      await say({ allowOut: ['good.example', '*.good.example'] });
    });

    after(async () => {
      await undo.disposeAsync();
    });

    async function makeNetworks(): Promise<GuardedNetworks> {
      const made = new GuardedNetworks(
        await createSandboxNetworks({ instance: 'aaaaaa', poolSize: 0, logger, dnsUpstream: RESOLVER }),
        logger,
      );
      made.onDenied((denial) => denials.push(denial));
      return made;
    }

    const say = (settings: Partial<EgressSettings>) =>
      networks.setEgress(
        slot,
        SANDBOX_ID,
        parseEgressRules({ allowInternetAccess: true, allowOut: [], denyOut: ['0.0.0.0/0'], ...settings }),
      );

    /** Answers by the zone, over UDP. */
    function serveZone(): void {
      const udp = createSocket('udp4', (message, from) => {
        const query = packet.decode(message);
        const [question] = query.questions ?? [];
        const name = question?.name.toLowerCase() ?? '';
        asked.push(`${question?.type} ${name}`);
        const addresses = ZONE[name];
        const answers =
          question?.type === 'A' ? (addresses ?? []).map((data): Answer => ({ type: 'A', name, ttl: 5, data })) : [];
        if (question?.type === 'TXT' && addresses !== undefined)
          answers.push({ type: 'TXT', name, ttl: 5, data: ['x'.repeat(200), 'y'.repeat(200), 'z'.repeat(200)] });
        const flags = packet.RECURSION_DESIRED | packet.RECURSION_AVAILABLE | (addresses === undefined ? 3 : 0);
        udp.send(
          packet.encode({ type: 'response', id: query.id ?? 0, flags, questions: query.questions ?? [], answers }),
          from.port,
          from.address,
        );
      });
      udp.bind({ fd: sockets.bindUdp('outside', at(RESOLVER, 53)) });
      undo.defer(() => void udp.close());
    }

    /** Servers that say who they are and what they were asked. */
    function serveWorld(address: string): void {
      const http = createHttpServer((request, response) => {
        request.resume();
        response.end(`${address} ${request.headers.host} ${request.url}`);
      });
      http.listen({ fd: sockets.listenTcp('outside', at(address, PORTS.http)) });
      undo.defer(() => void http.close());
      for (const port of [PORTS.tls, PORTS.otherTls]) {
        const tls = createTlsServer(certificate, (socket) => {
          socket.on('error', () => undefined);
          socket.write(`${address} ${socket.servername};`);
          socket.pipe(socket);
        });
        tls.listen({ fd: sockets.listenTcp('outside', at(address, port)) });
        undo.defer(() => void tls.close());
      }
      const speaksFirst = createServer((socket) => {
        socket.on('error', () => undefined);
        socket.end('hello, I am SSH');
      });
      speaksFirst.listen({ fd: sockets.listenTcp('outside', at(address, PORTS.otherTcp)) });
      undo.defer(() => void speaksFirst.close());
    }

    async function dial(address: string, port: number): Promise<Socket> {
      const fd = await sockets.connectTcp(guest.netnsName, at(address, port), 0, AbortSignal.timeout(SAFETY_MS));
      return new Socket({ fd, readable: true, writable: true, allowHalfOpen: true });
    }

    async function question(name: string, type: 'A' | 'AAAA' | 'TXT' | 'MX' = 'A', over: 'udp' | 'tcp' = 'udp') {
      const query = packet.encode({
        type: 'query',
        id: 7,
        flags: packet.RECURSION_DESIRED,
        questions: [{ type, name }],
      });
      const answer = packet.decode(await exchange(query, over));
      return {
        rcode: (answer.flags ?? 0) & 15,
        truncated: ((answer.flags ?? 0) & packet.TRUNCATED_RESPONSE) !== 0,
        data: (answer.answers ?? []).map((record) => ('data' in record ? record.data : undefined)),
      };
    }

    async function exchange(query: Buffer, over: 'udp' | 'tcp'): Promise<Buffer> {
      if (over === 'tcp') {
        const socket = await dial(GUEST_NETWORK.gateway, 53);
        const head = Buffer.alloc(2);
        head.writeUInt16BE(query.length);
        // In pieces, as a slow client would.
        socket.write(head.subarray(0, 1));
        socket.write(Buffer.concat([head.subarray(1), query]));
        const parts: Buffer[] = [];
        for await (const part of socket) {
          parts.push(part);
          const all = Buffer.concat(parts);
          if (all.length >= 2 && all.length >= 2 + all.readUInt16BE(0)) break;
        }
        socket.destroy();
        return Buffer.concat(parts).subarray(2);
      }
      const socket = createSocket('udp4');
      socket.bind({ fd: sockets.bindUdp(guest.netnsName, at(GUEST_NETWORK.address, 0)) });
      socket.send(query, 53, GUEST_NETWORK.gateway);
      const [message] = await once(socket, 'message', { signal: AbortSignal.timeout(SAFETY_MS) });
      socket.close();
      return message;
    }

    /** What a TLS server says at first, or the error's code. */
    async function askTls(address: string, servername: string | undefined, port: number = PORTS.tls): Promise<string> {
      try {
        const socket = connectTls({
          socket: await dial(address, port),
          rejectUnauthorized: false,
          ...(servername === undefined ? {} : { servername }),
        });
        const [data] = await once(socket, 'data');
        socket.destroy();
        return String(data);
      } catch (error) {
        return error instanceof Error && 'code' in error ? String(error.code) : String(error);
      }
    }

    async function askHttp(address: string, host: string, path = '/'): Promise<string> {
      try {
        const socket = await dial(address, PORTS.http);
        socket.end(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
        return await text(socket);
      } catch (error) {
        return error instanceof SocketError ? error.code : String(error);
      }
    }

    async function told(what: Partial<EgressDenial>): Promise<void> {
      const deadline = performance.now() + SAFETY_MS;
      const isTold = () =>
        denials.some((denial) =>
          Object.entries(what).every(([key, value]) => denial[key as keyof EgressDenial] === value),
        );
      while (!isTold()) {
        assert.ok(performance.now() < deadline, `nobody told ${JSON.stringify(what)}: ${JSON.stringify(denials)}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      assert.ok(denials.every(({ sandboxId }) => sandboxId === SANDBOX_ID));
    }

    test('before its name was asked for, an address is closed, even with the right name in the hello', async () => {
      assert.equal(await askTls(GOOD, 'good.example'), 'EHOSTUNREACH');
      await told({ protocol: 'tcp', address: GOOD, port: 443 });
    });

    test('a name that is allowed is answered and reached by TLS on any port, and by HTTP', async () => {
      assert.deepEqual(await question('good.example'), { rcode: 0, truncated: false, data: [GOOD] });
      assert.equal(await askTls(GOOD, 'good.example'), `${GOOD} good.example;`);
      assert.equal(await askTls(GOOD, 'good.example', PORTS.otherTls), `${GOOD} good.example;`);
      assert.match(await askHttp(GOOD, 'good.example', '/path'), new RegExp(`200 OK[^]*${GOOD} good.example /path$`));
      assert.deepEqual((await question('WWW.good.example', 'A', 'tcp')).data, [GOOD]);
      assert.equal(await askTls(GOOD, 'www.good.example'), `${GOOD} www.good.example;`);
    });

    test('a name that is not allowed is not even asked for', async () => {
      assert.deepEqual(await question('evil.example'), { rcode: 5, truncated: false, data: [] });
      assert.ok(!asked.some((line) => line.includes('evil.example')));
      await told({ protocol: 'dns', name: 'evil.example' });
      assert.equal((await question('not-there.good.example')).rcode, 3);
      assert.deepEqual(await question('good.example', 'AAAA'), { rcode: 0, truncated: false, data: [] });
    });

    test('a long answer is cut over UDP and whole over TCP', async () => {
      assert.equal((await question('good.example', 'TXT')).truncated, true);
      assert.equal((await question('good.example', 'TXT', 'tcp')).data.length, 1);
    });

    test('a lying name at an open address, a missing one and a lying host are refused and told', async () => {
      assert.match(await askTls(GOOD, 'evil.example'), /^ERR_SSL_.*ACCESS_DENIED/);
      await told({ protocol: 'tcp', name: 'evil.example', address: GOOD, port: 443 });
      assert.match(await askTls(GOOD, undefined), /^ERR_SSL_.*ACCESS_DENIED/);
      assert.match(await askHttp(GOOD, 'evil.example'), /^HTTP\/1.1 403/);
      const plain = await dial(GOOD, PORTS.otherTcp);
      plain.end('\0not TLS');
      assert.equal(await text(plain), '');
      // By the name that was asked for last, of those that the server has.
      await told({ port: PORTS.otherTcp, name: 'www.good.example', reason: 'it is neither TLS nor HTTP/1' });
    });

    test('an allowed name at somebody else’s open address leads to where the name is', async () => {
      await say({ allowOut: ['good.example', 'evil.example'] });
      await question('evil.example');
      await question('good.example');
      assert.equal(await askTls(EVIL, 'good.example'), `${GOOD} good.example;`);
      await say({ allowOut: ['good.example', '*.good.example'] });
      assert.equal(await askTls(EVIL, 'good.example'), 'EHOSTUNREACH');
      assert.equal(await askTls(GOOD, 'good.example'), `${GOOD} good.example;`);
    });

    test('UDP to an open address is closed clearly', async () => {
      await question('good.example');
      assert.equal(await guest.traffic.askUdp(GOOD, 443, 'quic?'), 'EHOSTUNREACH');
      await told({ protocol: 'udp', address: GOOD, port: 443, name: 'good.example' });
    });

    test('a second request on a connection reaches nobody', async () => {
      await question('good.example');
      const socket = await dial(GOOD, PORTS.http);
      socket.end('GET /one HTTP/1.1\r\nHost: good.example\r\n\r\nGET /two HTTP/1.1\r\nHost: evil.example\r\n\r\n');
      const answer = await text(socket);
      assert.match(answer, /\/one$/);
      assert.doesNotMatch(answer, /evil/);
    });

    test('a name that leads into a private network or to the host opens nothing', async () => {
      await say({ allowOut: ['rebound.example', 'half.example', 'host.example', 'good.example'] });
      assert.deepEqual(await question('rebound.example'), { rcode: 5, truncated: false, data: [] });
      await told({ protocol: 'dns', name: 'rebound.example' });
      assert.deepEqual((await question('half.example')).data, [GOOD]);
      // By way of an address that is open, to a name that leads elsewhere.
      assert.equal(await askTls(GOOD, 'rebound.example'), 'ECONNRESET');
      assert.equal(await askTls(GOOD, 'host.example'), 'ECONNRESET');
      await told({ name: 'host.example', address: HOST_PUBLIC, port: 443 });
      await say({ allowOut: ['good.example', '*.good.example'] });
    });

    test('megabytes stream both ways, and each side ends for itself', async () => {
      await question('good.example');
      const socket = connectTls({
        socket: await dial(GOOD, PORTS.tls),
        rejectUnauthorized: false,
        servername: 'good.example',
      });
      socket.allowHalfOpen = true;
      await once(socket, 'secureConnect');
      const much = 'x'.repeat(4 * 2 ** 20);
      socket.end(much);
      assert.ok((await text(socket)) === `${GOOD} good.example;${much}`);
    });

    test('a change ends connections to names that are not allowed any more, and no others', async () => {
      await say({ allowOut: ['good.example', 'evil.example', '*.good.example'] });
      await question('good.example');
      await question('evil.example');
      const open = async (address: string, servername: string) => {
        const socket = connectTls({ socket: await dial(address, PORTS.tls), rejectUnauthorized: false, servername });
        await once(socket, 'data');
        return socket;
      };
      const stays = await open(GOOD, 'good.example');
      const ends = await open(EVIL, 'evil.example');
      ends.on('error', () => undefined);
      const ended = new Promise((resolve) => ends.once('close', resolve));
      await say({ allowOut: ['good.example'] });
      await ended;
      stays.write('still here');
      assert.equal(String((await once(stays, 'data'))[0]), 'still here');
      await say({ allowOut: [], denyOut: [], allowInternetAccess: true });
      assert.equal(await askTls(EVIL, 'evil.example'), `${EVIL} evil.example;`);
      stays.write('here as well');
      assert.equal(String((await once(stays, 'data'))[0]), 'here as well');
      stays.destroy();
      await say({ allowOut: ['good.example', '*.good.example'] });
    });

    test('a server that two names share stays open to the one that is allowed still', async () => {
      const both = ['good.example', 'www.good.example'];
      for (const [stays, goes] of [both, both.toReversed()]) {
        await say({ allowOut: both });
        for (const name of both) await question(name);
        await say({ allowOut: [String(stays)] });
        assert.equal(await askTls(GOOD, stays), `${GOOD} ${stays};`);
        assert.notEqual(await askTls(GOOD, goes), `${GOOD} ${goes};`);
      }
      await say({ allowOut: ['good.example', '*.good.example'] });
    });

    test('addresses that are allowed need no name, beside names', async () => {
      await say({ allowOut: ['good.example', EVIL] });
      assert.equal(await askTls(EVIL, 'whoever.example'), `${EVIL} whoever.example;`);
      await say({ allowOut: ['good.example', '*.good.example'] });
    });

    test('a question from port 0, which nobody can answer, ends nothing', async (t) => {
      const python = await runCommand('sh', ['-c', 'command -v python3 || true']);
      if (python.stdout === '') return t.skip('python3 is not installed');
      const header = Buffer.alloc(8);
      header.writeUInt16BE(53, 2);
      const script = `import socket,sys
s=socket.socket(socket.AF_INET,socket.SOCK_RAW,socket.IPPROTO_UDP)
s.sendto(bytes.fromhex(sys.argv[1]),(sys.argv[2],0))`;
      const query = packet.encode({ type: 'query', id: 7, questions: [{ type: 'A', name: 'evil.example' }] });
      const whole = Buffer.concat([header, query]);
      whole.writeUInt16BE(whole.length, 4);
      const inGuest = `--net=/run/netns/${guest.netnsName}`;
      await runCommand('nsenter', [inGuest, 'python3', '-c', script, whole.toString('hex'), GUEST_NETWORK.gateway]);
      assert.deepEqual((await question('good.example')).data, [GOOD]);
      return undefined;
    });

    test('a client that says where it goes a byte at a time is refused before it keeps us busy', async () => {
      await question('good.example');
      const socket = await dial(GOOD, PORTS.http);
      socket.setNoDelay(true);
      const answer = text(socket);
      for (const byte of 'GET / HTTP/1.1\r\nX: '.padEnd(2000, 'x')) {
        if (socket.destroyed || socket.readableEnded) break;
        socket.write(byte);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      assert.match(await answer, /^HTTP\/1.1 403/);
      await told({ name: 'good.example', reason: 'it says where it goes in too many pieces' });
    });

    test('garbage to the resolver ends nothing', async () => {
      for (const bytes of [
        [],
        [0],
        Array.from({ length: 300 }, (_, i) => i & 255),
        [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 0x0c, 0, 1, 0, 1],
      ])
        await guest.traffic.sayUdp(GUEST_NETWORK.gateway, 53, Buffer.from(bytes).toString('latin1'));
      assert.deepEqual((await question('good.example')).data, [GOOD]);
    });

    test('the relay and its port cannot be reached but by a redirection', async () => {
      await assert.rejects(dial(GUEST_NETWORK.gateway, 15_001), { code: 'EHOSTUNREACH' });
    });

    test('when the host agent ends, the guest stays closed; the next one takes over', async () => {
      await question('good.example');
      await networks.close();
      assert.equal(await askTls(GOOD, 'good.example'), 'ECONNREFUSED');
      await assert.rejects(dial(GUEST_NETWORK.gateway, 53), { code: 'ECONNREFUSED' });
      assert.equal(await askTls(EVIL, 'evil.example'), 'EHOSTUNREACH');
      networks = await makeNetworks();
      await networks.reconcile([slot.index]);
      await say({ allowOut: ['good.example'] });
      await question('good.example');
      assert.equal(await askTls(GOOD, 'good.example'), `${GOOD} good.example;`);
    });

    test('two sandboxes have each their own rules, and nothing is left of one that is released', async () => {
      const other = await networks.acquire();
      await networks.setEgress(
        other,
        'i00000000000000000001',
        parseEgressRules({ allowInternetAccess: false, allowOut: ['evil.example'], denyOut: [] }),
      );
      await networks.release(other);
      const { stdout } = await runCommand('ip', ['netns', 'list']);
      assert.ok(!stdout.includes(other.netnsName));
      assert.equal((await question('evil.example')).rcode, 5);
    });
  });

function at(address: string, port: number) {
  return { address: parseIpv4(address) ?? assert.fail(address), port };
}

async function makeCertificate(): Promise<{ key: string; cert: string }> {
  const folder = await mkdtemp('/run/certificate-');
  await runCommand('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...['-subj', '/CN=test', '-keyout', `${folder}/key`, '-out', `${folder}/cert`],
  ]);
  return { key: await readFile(`${folder}/key`, 'utf8'), cert: await readFile(`${folder}/cert`, 'utf8') };
}
