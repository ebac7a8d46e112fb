import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { type EgressSettings, GUEST_NETWORK, OPEN_EGRESS, parseEgressRules } from '@nestbox/contract';
import { createLogger, runCommand } from '@nestbox/kit';
import { parseOpenedRanges } from '../network/closed-ranges.ts';
import type { NetworkSlot, SandboxNetworks } from '../network/network.ts';
import { createSandboxNetworks } from '../network/sandbox-networks.ts';
import { FakeGuest } from '../network/testing/fake-guest.ts';
import {
  HOST_PUBLIC,
  METADATA_SERVER,
  makeOutsideWorld,
  PRIVATE_RESOLVER,
  PRIVATE_SERVER,
  PUBLIC_RESOLVER,
  PUBLIC_SERVER,
} from '../network/testing/outside-world.ts';
import { insidePrivateHost } from '../network/testing/private-host.ts';
import type { RemoteTraffic } from '../network/testing/remote-traffic.ts';
import { Traffic } from '../network/testing/traffic.ts';
import { GuardedNetworks } from './guarded-networks.ts';

const logger = createLogger({ level: 'error' });
const REFUSED = 'EHOSTUNREACH';
const SANDBOX_ID = 'i00000000000000000001';

if (insidePrivateHost(import.meta.filename))
  suite('rules with addresses', () => {
    const undo = new AsyncDisposableStack();
    const host = new Traffic();
    let outside: RemoteTraffic;
    let networks: SandboxNetworks;
    let slot: NetworkSlot;
    let guest: FakeGuest;

    before(async () => {
      outside = await makeOutsideWorld();
      undo.defer(() => outside.stop());
      undo.defer(() => host.close());
      networks = new GuardedNetworks(
        await createSandboxNetworks({ instance: 'aaaaaa', poolSize: 0, logger, dnsUpstream: PUBLIC_RESOLVER }),
        logger,
      );
      undo.defer(() => networks.close());
      slot = await networks.acquire();
      undo.defer(() => networks.release(slot));
      guest = await FakeGuest.boot(slot);
      undo.defer(() => guest.powerOff());
      await guest.traffic.listenTcp('0.0.0.0', 3000);
    });

    after(async () => {
      await undo.disposeAsync();
    });

    const say = (settings: Partial<EgressSettings>) =>
      networks.setEgress(slot, SANDBOX_ID, parseEgressRules({ ...OPEN_EGRESS, ...settings }));

    test('an address that is denied is refused by TCP and UDP, and others, DNS and the host’s own way in stay open', async () => {
      await say({ denyOut: [PUBLIC_SERVER] });
      assert.equal(await guest.traffic.askTcp(PUBLIC_SERVER, 80, 'denied?'), REFUSED);
      await guest.traffic.sayUdp(PUBLIC_SERVER, 80, 'denied-udp');
      assert.equal(await guest.traffic.askTcp(PUBLIC_RESOLVER, 53, 'open'), 'open');
      assert.equal(await guest.traffic.askUdp(GUEST_NETWORK.gateway, 53, 'question'), 'question');
      assert.equal(await host.askTcp(slot.hostReachableAddress, 3000, 'inward'), 'inward');
      assert.ok(!(await outside.heard()).some((line) => line.includes('denied-udp')));
    });

    test('what is allowed wins over what is denied, whichever is the wider', async () => {
      await say({ denyOut: ['203.0.113.0/24'], allowOut: [PUBLIC_SERVER] });
      assert.equal(await guest.traffic.askTcp(PUBLIC_SERVER, 80, 'allowed'), 'allowed');
      assert.equal(await guest.traffic.askTcp(PUBLIC_RESOLVER, 53, 'denied?'), REFUSED);
      await say({ denyOut: [PUBLIC_SERVER], allowOut: ['203.0.113.0/24'] });
      assert.equal(await guest.traffic.askUdp(PUBLIC_SERVER, 80, 'allowed too'), 'allowed too');
    });

    test('with everything denied but one address there is that address, and no DNS', async () => {
      await say({ denyOut: ['0.0.0.0/0'], allowOut: [PUBLIC_SERVER] });
      assert.equal(await guest.traffic.askTcp(PUBLIC_SERVER, 80, 'the one'), 'the one');
      assert.equal(await guest.traffic.askTcp(PUBLIC_RESOLVER, 53, 'another?'), REFUSED);
      assert.equal(await guest.traffic.askTcp(GUEST_NETWORK.gateway, 53, 'dns?'), REFUSED);
    });

    test('everything allowed is open, DNS included, whatever is denied', async () => {
      await say({ denyOut: ['0.0.0.0/0'], allowOut: ['0.0.0.0/0', 'a.example'] });
      assert.equal(await guest.traffic.askTcp(PUBLIC_SERVER, 80, 'open'), 'open');
      assert.equal(await guest.traffic.askUdp(GUEST_NETWORK.gateway, 53, 'question'), 'question');
    });

    test('private ranges, the host and the metadata service stay closed whatever is allowed', async () => {
      await say({ allowOut: ['0.0.0.0/0', PRIVATE_SERVER, METADATA_SERVER, HOST_PUBLIC] });
      await host.listenTcp(HOST_PUBLIC, 80);
      for (const address of [PRIVATE_SERVER, METADATA_SERVER, HOST_PUBLIC, slot.hostReachableAddress])
        assert.equal(await guest.traffic.askTcp(address, 80, 'closed?'), REFUSED, address);
    });

    test('a change leaves connections that stay allowed alone and ends the others', async () => {
      await say({});
      await guest.traffic.open('stays', PUBLIC_SERVER, 80);
      await guest.traffic.open('ends', PUBLIC_RESOLVER, 53);
      await guest.traffic.open('spoken to', PUBLIC_RESOLVER, 53);
      for (const name of ['stays', 'ends', 'spoken to']) {
        await guest.traffic.write(name, 'before;');
        await guest.traffic.waitFor(name, 'before;');
      }
      const resets = async () => (await outside.heard()).filter((line) => line === 'tcp error ECONNRESET').length;
      const before = await resets();
      await say({ denyOut: [PUBLIC_RESOLVER] });
      await outside.speak('after;');
      await guest.traffic.waitFor('stays', 'after;');
      await guest.traffic.write('stays', 'more;');
      await guest.traffic.waitFor('stays', 'more;');
      await guest.traffic.write('ends', 'more;');
      assert.equal(await guest.traffic.waitForEnd('ends'), 'ECONNRESET');
      const deadline = performance.now() + 8000;
      while ((await resets()) < before + 2) assert.ok(performance.now() < deadline, 'the servers were not told');
      assert.equal(await guest.traffic.textOf('spoken to'), 'before;');
    });

    test('a thousand entries are one set and take effect at once', async () => {
      const entries = Array.from({ length: 1000 }, (_, i) => `100.${i >> 8}.${i & 255}.0/25`);
      await say({ denyOut: ['0.0.0.0/0'], allowOut: [...entries.slice(1), PUBLIC_SERVER] });
      assert.equal(await guest.traffic.askTcp(PUBLIC_SERVER, 80, 'one of many'), 'one of many');
      assert.equal(await guest.traffic.askTcp(PUBLIC_RESOLVER, 53, 'none of them'), REFUSED);
      await say({ denyOut: [...entries.slice(1), PUBLIC_SERVER] });
      assert.equal(await guest.traffic.askTcp(PUBLIC_SERVER, 80, 'one of many'), REFUSED);
      await say({});
      assert.equal(await guest.traffic.askTcp(PUBLIC_SERVER, 80, 'open again'), 'open again');
    });

    test('an operator opens a private range for every sandbox, and rules can close it again', async (t) => {
      const opened = new GuardedNetworks(
        await createSandboxNetworks({
          instance: 'bbbbbb',
          poolSize: 0,
          logger,
          dnsUpstream: PUBLIC_RESOLVER,
          openedRanges: parseOpenedRanges([`${PRIVATE_SERVER}/32`]),
        }),
        logger,
      );
      t.after(() => opened.close());
      const room = await opened.acquire();
      t.after(() => opened.release(room));
      const other = await FakeGuest.boot(room);
      t.after(() => other.powerOff());
      assert.equal(await other.traffic.askTcp(PRIVATE_SERVER, 80, 'opened'), 'opened');
      assert.equal(await other.traffic.askTcp(PRIVATE_RESOLVER, 53, 'not opened'), REFUSED);
      const denied = parseEgressRules({ ...OPEN_EGRESS, denyOut: [PRIVATE_SERVER] });
      await opened.setEgress(room, SANDBOX_ID, denied);
      assert.equal(await other.traffic.askTcp(PRIVATE_SERVER, 80, 'closed again'), REFUSED);
    });

    test('what an operator may not open is refused', () => {
      for (const entry of [
        '10.0.0.0/8',
        '10.12.3.4',
        '127.0.0.1',
        '169.254.0.0/16',
        '0.0.0.0/0',
        '224.0.0.1',
        'lan',
        '',
      ])
        assert.throws(() => parseOpenedRanges([entry]), { code: 'invalid_request' }, entry);
      assert.deepEqual(parseOpenedRanges(['10.1.2.0/24', '10.1.3.0/24']).length, 1);
    });

    test('rules stay in force when the tables are listed and applied again, as by a restart of the firewall', async () => {
      await say({ denyOut: [PUBLIC_SERVER] });
      const inside = [`--net=/run/netns/${slot.netnsName}`, 'nft'];
      const { stdout } = await runCommand('nsenter', [...inside, 'list', 'ruleset']);
      await runCommand('nsenter', [...inside, '-f', '-'], { input: `flush ruleset\n${stdout}` });
      assert.equal(await guest.traffic.askTcp(PUBLIC_SERVER, 80, 'denied?'), REFUSED);
    });
  });
