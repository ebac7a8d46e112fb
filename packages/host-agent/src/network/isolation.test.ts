import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { GUEST_NETWORK } from '@nestbox/contract';
import { createLogger, runCommand } from '@nestbox/kit';
import type { NetworkSlot, SlotNetworks } from './network.ts';
import { createSandboxNetworks } from './sandbox-networks.ts';
import { slotPlan } from './slot.ts';
import { CLOSED_RULES, OPEN_RULES } from './slot-rules.ts';
import { FakeGuest } from './testing/fake-guest.ts';
import {
  HOST_PUBLIC,
  METADATA_SERVER,
  makeOutsideWorld,
  PRIVATE_RESOLVER,
  PRIVATE_SERVER,
  PUBLIC_RESOLVER,
  PUBLIC_SERVER,
} from './testing/outside-world.ts';
import { insidePrivateHost } from './testing/private-host.ts';
import { RemoteTraffic } from './testing/remote-traffic.ts';
import { Traffic } from './testing/traffic.ts';

const logger = createLogger({ level: 'error' });
const REFUSED = 'EHOSTUNREACH';

if (insidePrivateHost(import.meta.filename))
  suite('what a guest reaches', () => {
    const undo = new AsyncDisposableStack();
    let outside: RemoteTraffic;
    const host = new Traffic();
    let networks: SlotNetworks;
    let slot: NetworkSlot;
    let neighbourSlot: NetworkSlot;
    let guest: FakeGuest;
    let neighbour: FakeGuest;

    before(async () => {
      outside = await makeOutsideWorld();
      undo.defer(() => outside.stop());
      undo.defer(() => host.close());
      networks = await createSandboxNetworks({ instance: 'aaaaaa', poolSize: 0, logger, dnsUpstream: PUBLIC_RESOLVER });
      undo.defer(() => networks.close());
      slot = await networks.acquire();
      undo.defer(() => networks.release(slot));
      neighbourSlot = await networks.acquire();
      undo.defer(() => networks.release(neighbourSlot));
      guest = await FakeGuest.boot(slot);
      undo.defer(() => guest.powerOff());
      neighbour = await FakeGuest.boot(neighbourSlot);
      undo.defer(() => neighbour.powerOff());
      for (const port of [22, 80]) {
        await host.listenTcp('0.0.0.0', port);
        await host.listenUdp('0.0.0.0', port);
      }
      // Bound to an address, as resolvers are, so that it answers from the address that was asked.
      for (const address of [HOST_PUBLIC, plan(slot).hostVethAddress, plan(neighbourSlot).hostVethAddress]) {
        await host.listenTcp(address, 53);
        await host.listenUdp(address, 53);
      }
      for (const { traffic } of [guest, neighbour]) {
        await traffic.listenTcp('0.0.0.0', 3000);
        await traffic.listenUdp('0.0.0.0', 3000);
      }
    });

    after(async () => {
      await undo.disposeAsync();
    });

    test('a guest reaches the outside by TCP and UDP, with the host’s address', async () => {
      assert.equal(await guest.traffic.askTcp(PUBLIC_SERVER, 80, 'hello'), 'hello');
      assert.equal(await guest.traffic.askUdp(PUBLIC_SERVER, 80, 'hello-udp'), 'hello-udp');
      const heard = await outside.heard();
      assert.ok(heard.includes(`tcp ${PUBLIC_SERVER}:80 from ${HOST_PUBLIC}`), heard.join('\n'));
      assert.ok(heard.includes(`udp hello-udp from ${HOST_PUBLIC}`), heard.join('\n'));
    });

    test('a megabyte passes a way out with a smaller MTU than the guest’s', async () => {
      const text = 'x'.repeat(2 ** 20);
      assert.ok((await guest.traffic.askTcp(PUBLIC_SERVER, 80, text)) === text);
    });

    test('the host reaches every port of a guest at its own address, and the guest answers', async () => {
      assert.equal(await host.askTcp(slot.hostReachableAddress, 3000, 'from the host'), 'from the host');
      assert.equal(await host.askUdp(slot.hostReachableAddress, 3000, 'datagram'), 'datagram');
      assert.equal(await host.askTcp(neighbourSlot.hostReachableAddress, 3000, 'other'), 'other');
      await guest.traffic.listenTcp('0.0.0.0', 65535);
      assert.equal(await host.askTcp(slot.hostReachableAddress, 65535, 'last port'), 'last port');
      assert.equal(await host.askTcp(slot.hostReachableAddress, 4444, 'nobody'), 'ECONNREFUSED');
      assert.ok((await guest.traffic.heard()).includes('udp datagram from '.concat(plan(slot).hostVethAddress)));
    });

    test('the host can ping a guest', async (t) => {
      const ping = await runCommand('sh', ['-c', 'command -v ping || echo "$(command -v busybox) ping"']);
      const [command = '', ...applet] = ping.stdout.trim().split(' ');
      if (command === 'ping') return t.skip('neither ping nor busybox is installed');
      await runCommand(command, [...applet, '-c', '1', '-W', '5', slot.hostReachableAddress]);
      return undefined;
    });

    test('no address of the host answers a guest, on any port', async () => {
      const addresses = [HOST_PUBLIC, plan(slot).hostVethAddress, plan(neighbourSlot).hostVethAddress];
      const before = host.heard();
      for (const address of addresses) {
        for (const port of [22, 80, 53]) {
          assert.equal(await guest.traffic.askTcp(address, port, 'host?'), REFUSED, `${address}:${port} by TCP`);
          await guest.traffic.sayUdp(address, port, 'host?');
        }
      }
      assert.equal(await guest.traffic.askUdp(PUBLIC_SERVER, 80, 'after'), 'after');
      assert.deepEqual(host.heard(), before);
    });

    test('a port that the host publishes for somebody else’s container is closed to a guest as well', async (t) => {
      await runCommand('nft', ['-f', '-'], {
        input: `table ip published { chain prerouting {
          type nat hook prerouting priority dstnat; policy accept;
          ip daddr ${HOST_PUBLIC} tcp dport 8080 dnat to ${PRIVATE_SERVER}:80
        }
      }\n`,
      });
      t.after(() => runCommand('nft', ['delete', 'table', 'ip', 'published']));
      const before = await heardBy(outside, `tcp ${PRIVATE_SERVER}:80`);
      assert.equal(await guest.traffic.askTcp(HOST_PUBLIC, 8080, 'published?'), REFUSED);
      assert.equal(await heardBy(outside, `tcp ${PRIVATE_SERVER}:80`), before);
    });

    test('the host’s loopback answers no guest, however the guest routes', async () => {
      await runCommand('nsenter', [
        `--net=/run/netns/${guest.netnsName}`,
        'sh',
        '-ec',
        'echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet',
      ]);
      await guest.ip('rule', 'add', 'pref', '1', 'to', '127.0.0.9', 'lookup', '100');
      await guest.ip('rule', 'del', 'pref', '0', 'lookup', 'local');
      await guest.ip('rule', 'add', 'pref', '2', 'lookup', 'local');
      await guest.ip('route', 'add', '127.0.0.9', 'via', GUEST_NETWORK.gateway, 'dev', 'eth0', 'table', '100');
      await guest.traffic.sayUdp('127.0.0.9', 80, 'loopback?');
      assert.equal(await guest.traffic.askUdp(PUBLIC_SERVER, 80, 'after-loopback'), 'after-loopback');
      assert.ok(!host.heard().some((line) => line.includes('loopback?')));
    });

    test('private networks and the metadata service are closed, although the host reaches them', async () => {
      for (const address of [PRIVATE_SERVER, METADATA_SERVER]) {
        if (address === PRIVATE_SERVER) assert.equal(await host.askTcp(address, 80, 'from the host'), 'from the host');
        const before = await heardBy(outside, `tcp ${address}:80`);
        assert.equal(await guest.traffic.askTcp(address, 80, 'private?'), REFUSED);
        await guest.traffic.sayUdp(address, 80, `private? ${address}`);
        assert.equal(await heardBy(outside, `tcp ${address}:80`), before);
      }
      assert.equal(await guest.traffic.askUdp(PUBLIC_SERVER, 80, 'after-private'), 'after-private');
      assert.equal(await heardBy(outside, 'udp private?'), 0);
    });

    test('another sandbox is closed, by its address on the host and by its veth', async () => {
      for (const address of [neighbourSlot.hostReachableAddress, plan(neighbourSlot).uplinkAddress]) {
        assert.equal(await guest.traffic.askTcp(address, 3000, 'neighbour?'), REFUSED);
        await guest.traffic.sayUdp(address, 3000, 'neighbour?');
      }
      assert.equal(await guest.traffic.askUdp(PUBLIC_SERVER, 80, 'after-neighbour'), 'after-neighbour');
      assert.ok(!(await neighbour.traffic.heard()).some((line) => line.includes('neighbour?')));
    });

    test('the outside cannot open a connection to a guest through the host', async () => {
      await runCommand('ip', ['-n', 'outside', 'route', 'add', '10.11.0.0/16', 'via', HOST_PUBLIC]);
      const before = await heardBy(guest.traffic, 'tcp ');
      await outside.sayUdp(slot.hostReachableAddress, 3000, 'from outside');
      assert.equal(await host.askUdp(slot.hostReachableAddress, 3000, 'fence'), 'fence');
      assert.equal(await heardBy(guest.traffic, 'tcp '), before);
      assert.equal(await heardBy(guest.traffic, 'udp from outside'), 0);
      await runCommand('ip', ['-n', 'outside', 'route', 'del', '10.11.0.0/16']);
    });

    test('packets with another source address or another MAC are dropped', async () => {
      for (const spoofed of [plan(neighbourSlot).uplinkAddress, neighbourSlot.hostReachableAddress, '203.0.113.99']) {
        await guest.ip('addr', 'add', `${spoofed}/32`, 'dev', 'eth0');
        await guest.traffic.sayUdp(PUBLIC_SERVER, 80, 'spoofed', spoofed);
        await guest.ip('addr', 'del', `${spoofed}/32`, 'dev', 'eth0');
      }
      await guest.ip('link', 'set', 'eth0', 'address', '02:fc:00:00:00:66');
      await guest.traffic.sayUdp(PUBLIC_SERVER, 80, 'spoofed-mac');
      await guest.ip('link', 'set', 'eth0', 'address', GUEST_NETWORK.mac);
      assert.equal(await guest.traffic.askUdp(PUBLIC_SERVER, 80, 'honest'), 'honest');
      assert.equal(await heardBy(outside, 'udp spoofed'), 0);
    });

    test('IPv6 is off on both sides of the slot', async () => {
      const veth = await runCommand('ip', ['-6', '-o', 'addr', 'show', 'dev', slot.netnsName]);
      assert.equal(veth.stdout, '');
      const inside = await runCommand('ip', ['-n', slot.netnsName, '-6', '-o', 'addr', 'show']);
      assert.equal(inside.stdout, '');
    });

    test('the namespace itself opens no connection: a VMM that was taken over gets nowhere', async (t) => {
      const vmm = await RemoteTraffic.start(slot.netnsName);
      t.after(() => vmm.stop());
      for (const address of [PUBLIC_SERVER, PRIVATE_SERVER, plan(slot).hostVethAddress, GUEST_NETWORK.address])
        assert.equal(await vmm.askUdp(address, 80, 'taken over'), 'EPERM');
    });

    test('DNS works through the gateway by UDP and TCP; nothing else of the gateway does', async () => {
      assert.equal(await guest.traffic.askUdp(GUEST_NETWORK.gateway, 53, 'question'), 'question');
      assert.equal(await guest.traffic.askTcp(GUEST_NETWORK.gateway, 53, 'long question'), 'long question');
      assert.ok((await outside.heard()).includes(`udp question from ${HOST_PUBLIC}`));
      assert.equal(await guest.traffic.askTcp(GUEST_NETWORK.gateway, 80, 'gateway?'), REFUSED);
    });

    test('a resolver in a private network answers through the gateway only', async (t) => {
      const local = await createSandboxNetworks({
        instance: 'bbbbbb',
        poolSize: 0,
        logger,
        dnsUpstream: PRIVATE_RESOLVER,
      });
      t.after(() => local.close());
      const room = await local.acquire();
      t.after(() => local.release(room));
      const { traffic } = await bootFor(t, room);
      assert.equal(await traffic.askUdp(GUEST_NETWORK.gateway, 53, 'intern?'), 'intern?');
      assert.equal(await traffic.askTcp(GUEST_NETWORK.gateway, 53, 'intern by TCP?'), 'intern by TCP?');
      assert.equal(await traffic.askTcp(PRIVATE_RESOLVER, 53, 'direct?'), REFUSED);
      assert.equal(await traffic.askTcp(PRIVATE_SERVER, 80, 'beside?'), REFUSED);
    });

    test('a resolver on the host itself answers through the gateway only', async (t) => {
      const local = await createSandboxNetworks({ instance: 'cccccc', poolSize: 0, logger, dnsUpstream: HOST_PUBLIC });
      t.after(() => local.close());
      const room = await local.acquire();
      t.after(() => local.release(room));
      const { traffic } = await bootFor(t, room);
      assert.equal(await traffic.askUdp(GUEST_NETWORK.gateway, 53, 'host resolver?'), 'host resolver?');
      assert.equal(await traffic.askTcp(GUEST_NETWORK.gateway, 53, 'by TCP'), 'by TCP');
      assert.equal(await traffic.askTcp(HOST_PUBLIC, 53, 'direct?'), REFUSED);
      assert.equal(await traffic.askTcp(HOST_PUBLIC, 22, 'ssh?'), REFUSED);
    });

    test('without internet access the host still reaches the guest, and the guest nothing: not even DNS', async () => {
      await guest.traffic.open('long', PUBLIC_SERVER, 80);
      await guest.traffic.write('long', 'before;');
      await guest.traffic.waitFor('long', 'before;');
      await host.open('inward', slot.hostReachableAddress, 3000);
      await networks.setRules(slot, CLOSED_RULES);

      assert.equal(await guest.traffic.askTcp(PUBLIC_SERVER, 80, 'open?'), REFUSED);
      assert.equal(await guest.traffic.askTcp(GUEST_NETWORK.gateway, 53, 'dns?'), REFUSED);
      await guest.traffic.sayUdp(GUEST_NETWORK.gateway, 53, 'closed-dns?');
      await guest.traffic.write('long', 'while closed;');
      assert.equal(await guest.traffic.waitForEnd('long'), 'ECONNRESET');
      host.write('inward', 'still here');
      await host.waitFor('inward', 'still here');
      assert.equal(await host.askTcp(slot.hostReachableAddress, 3000, 'new'), 'new');
      assert.equal(await heardBy(outside, 'tcp data while closed;'), 0);
      assert.equal(await heardBy(outside, 'udp closed-dns?'), 0);
      assert.equal(await neighbour.traffic.askTcp(PUBLIC_SERVER, 80, 'neighbour stays open'), 'neighbour stays open');

      await networks.setRules(slot, OPEN_RULES);
      assert.equal(await guest.traffic.askTcp(PUBLIC_SERVER, 80, 'open again'), 'open again');
      assert.equal(await guest.traffic.askUdp(GUEST_NETWORK.gateway, 53, 'dns again'), 'dns again');
    });

    test('guests of two installations reach the outside and not each other', async (t) => {
      const other = await createSandboxNetworks({
        instance: 'dddddd',
        poolSize: 0,
        logger,
        dnsUpstream: PUBLIC_RESOLVER,
      });
      t.after(() => other.close());
      const room = await other.acquire();
      t.after(() => other.release(room));
      assert.notEqual(room.index, slot.index);
      const stranger = await bootFor(t, room);
      await stranger.traffic.listenTcp('0.0.0.0', 3000);
      assert.equal(await host.askTcp(room.hostReachableAddress, 3000, 'x'), 'x');
      assert.equal(await stranger.traffic.askTcp(PUBLIC_SERVER, 80, 'x'), 'x');
      assert.equal(await stranger.traffic.askTcp(slot.hostReachableAddress, 3000, 'x'), REFUSED);
      assert.equal(await guest.traffic.askTcp(room.hostReachableAddress, 3000, 'x'), REFUSED);
    });

    test('when the host’s rules are flushed, what is inside the namespace still keeps sandboxes apart', async () => {
      const { stdout } = await runCommand('nft', ['list', 'ruleset']);
      await runCommand('nft', ['flush', 'ruleset']);
      try {
        assert.equal(await guest.traffic.askTcp(neighbourSlot.hostReachableAddress, 3000, 'x'), REFUSED);
        assert.equal(await guest.traffic.askTcp(PRIVATE_SERVER, 80, 'x'), REFUSED);
        assert.equal(await guest.traffic.askTcp(plan(slot).hostVethAddress, 22, 'x'), REFUSED);
      } finally {
        await runCommand('nft', ['-f', '-'], { input: stdout });
      }
    });

    test('a guest that is not there is refused at once, again and again', async () => {
      await neighbour.powerOff();
      for (let i = 0; i < 20; i++)
        assert.equal(await host.askTcp(neighbourSlot.hostReachableAddress, 3000, 'anybody?'), REFUSED);
      neighbour = await FakeGuest.boot(neighbourSlot);
      await neighbour.traffic.listenTcp('0.0.0.0', 3000);
      assert.equal(await host.askTcp(neighbourSlot.hostReachableAddress, 3000, 'back'), 'back');
    });
  });

function plan(slot: NetworkSlot) {
  return slotPlan(slot.netnsName.slice(3, 9), slot.index);
}

async function heardBy(traffic: RemoteTraffic, beginning: string): Promise<number> {
  return (await traffic.heard()).filter((line) => line.startsWith(beginning)).length;
}

async function bootFor(t: { after(fn: () => Promise<void>): void }, slot: NetworkSlot): Promise<FakeGuest> {
  const guest = await FakeGuest.boot(slot);
  t.after(() => guest.powerOff());
  return guest;
}
