import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { GUEST_NETWORK } from '@nestbox/contract';
import { createLogger, runCommand } from '@nestbox/kit';
import { closedRanges } from './closed-ranges.ts';
import { makeNamespace, mendNamespace, removeNamespace } from './namespace.ts';
import type { NetworkSlot, SlotNetworks } from './network.ts';
import { createSandboxNetworks } from './sandbox-networks.ts';
import { slotPlan } from './slot.ts';
import { CLOSED_RULES, OPEN_RULES } from './slot-rules.ts';
import { FakeGuest } from './testing/fake-guest.ts';
import { HOST_PUBLIC, makeOutsideWorld, PUBLIC_RESOLVER, PUBLIC_SERVER } from './testing/outside-world.ts';
import { insidePrivateHost } from './testing/private-host.ts';
import type { RemoteTraffic } from './testing/remote-traffic.ts';
import { Traffic } from './testing/traffic.ts';

const logger = createLogger({ level: 'error' });
const INSTANCE = 'aaaaaa';
/** Only a test that is about to fail waits for it. */
const SAFETY_MS = 8_000;

if (insidePrivateHost(import.meta.filename))
  suite('a guest that was restored in another slot', () => {
    const undo = new AsyncDisposableStack();
    let outside: RemoteTraffic;
    const host = new Traffic();
    let networks: SlotNetworks;
    let guest: FakeGuest;
    let slot: NetworkSlot;

    before(async () => {
      outside = await makeOutsideWorld();
      undo.defer(() => outside.stop());
      undo.defer(() => host.close());
      networks = await createSandboxNetworks({ instance: INSTANCE, poolSize: 0, logger, dnsUpstream: PUBLIC_RESOLVER });
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

    /** Into a new slot, the old one is taken apart. */
    async function restoreElsewhere(): Promise<void> {
      const next = await networks.acquire();
      await guest.moveTo(next);
      await networks.release(slot);
      slot = next;
    }

    /** Into a slot of the same index and so of the same addresses, which knows nothing of what was before. */
    async function restoreInRenewedSlot(): Promise<void> {
      const plan = slotPlan(INSTANCE, slot.index);
      await removeNamespace(plan);
      await makeNamespace(plan, closedRanges([]));
      await guest.moveTo(slot);
    }

    /** The kernel hears up to a second late, on a busy machine, that a TAP has got its guest, and refuses the way until then. */
    async function untilReached(): Promise<void> {
      const deadline = performance.now() + SAFETY_MS;
      while ((await host.askTcp(slot.hostReachableAddress, 3000, 'there?')) !== 'there?') {
        assert.ok(performance.now() < deadline, 'the host does not reach the guest');
        await delay(20);
      }
    }

    async function openAndUse(name: string, port = 80, address = PUBLIC_SERVER): Promise<void> {
      await guest.traffic.open(name, address, port);
      await guest.traffic.write(name, 'before;');
      await guest.traffic.waitFor(name, 'before;');
    }

    test('is told at once that a connection from before is gone, when it sends', async () => {
      await openAndUse('sending');
      await restoreElsewhere();
      await guest.traffic.write('sending', 'after;');
      assert.equal(await guest.traffic.waitForEnd('sending'), 'ECONNRESET');
      assert.equal(await heardBy(outside, 'tcp data after;'), 0);
    });

    test('is told so too when it only ends its side and waits for the answer', async () => {
      await openAndUse('half closed');
      await restoreElsewhere();
      await guest.traffic.endOurs('half closed');
      assert.equal(await guest.traffic.waitForEnd('half closed'), 'ECONNRESET');
    });

    test('is told so of connections to the resolver behind the gateway as well', async () => {
      await openAndUse('questions', 53, GUEST_NETWORK.gateway);
      await restoreElsewhere();
      await guest.traffic.write('questions', 'after;');
      assert.equal(await guest.traffic.waitForEnd('questions'), 'ECONNRESET');
    });

    test('is told so without internet access too', async () => {
      await openAndUse('closed');
      await restoreElsewhere();
      await networks.setRules(slot, CLOSED_RULES);
      await guest.traffic.write('closed', 'after;');
      assert.equal(await guest.traffic.waitForEnd('closed'), 'ECONNRESET');
      await networks.setRules(slot, OPEN_RULES);
    });

    test('reaches the outside and the host reaches it, without asking for the gateway’s MAC', async () => {
      await restoreElsewhere();
      assert.equal(await guest.traffic.askTcp(PUBLIC_SERVER, 80, 'hello'), 'hello');
      assert.equal(await guest.traffic.askUdp(GUEST_NETWORK.gateway, 53, 'question'), 'question');
      assert.equal(await host.askTcp(slot.hostReachableAddress, 3000, 'hello'), 'hello');
      assert.ok((await outside.heard()).includes(`tcp ${PUBLIC_SERVER}:80 from ${HOST_PUBLIC}`));
    });

    test('a connection of the host from before is answered with a reset, whether it sends or ends', async () => {
      for (const [name, act] of [
        ['host sends', () => host.write('host sends', 'after')],
        ['host ends', () => host.endOurs('host ends')],
      ] as const) {
        await untilReached();
        await host.open(name, slot.hostReachableAddress, 3000);
        host.write(name, 'before;');
        await host.waitFor(name, 'before;');
        await restoreInRenewedSlot();
        act();
        assert.equal(await host.waitForEnd(name), 'ECONNRESET', name);
      }
    });

    test('what comes from outside for a connection from before is answered with a reset', async () => {
      await openAndUse('spoken to late');
      await restoreInRenewedSlot();
      const resets = () => heardBy(outside, 'tcp error ECONNRESET');
      const before = await resets();
      await outside.speak('late;');
      const deadline = performance.now() + SAFETY_MS;
      while ((await resets()) === before) assert.ok(performance.now() < deadline, 'the server was not told');
      assert.equal(await guest.traffic.textOf('spoken to late'), 'before;');
    });

    test('connections that go on are left alone, also long ones that end late', async () => {
      await restoreElsewhere();
      await openAndUse('going on');
      const megabyte = 'x'.repeat(2 ** 20);
      assert.ok((await guest.traffic.askTcp(PUBLIC_SERVER, 80, megabyte)) === megabyte);
      await guest.traffic.write('going on', 'still;');
      await guest.traffic.waitFor('going on', 'still;');
      await guest.traffic.endOurs('going on');
      assert.equal(await guest.traffic.waitForEnd('going on'), 'closed');
    });

    test('mending gives a gateway its MAC back, and leaves the guest reachable', async () => {
      const tapMac = async () =>
        (await runCommand('ip', ['-n', slot.netnsName, '-o', 'link', 'show', 'dev', slot.tapName])).stdout;
      assert.match(await tapMac(), new RegExp(`link/ether ${GUEST_NETWORK.gatewayMac} `));
      await runCommand('ip', ['-n', slot.netnsName, 'link', 'set', slot.tapName, 'address', '02:fc:00:00:00:99']);
      assert.equal(await mendNamespace(slotPlan(INSTANCE, slot.index), closedRanges([])), true);
      assert.match(await tapMac(), new RegExp(`link/ether ${GUEST_NETWORK.gatewayMac} `));
      assert.equal(await host.askTcp(slot.hostReachableAddress, 3000, 'mended'), 'mended');
    });
  });

async function heardBy(traffic: RemoteTraffic, beginning: string): Promise<number> {
  return (await traffic.heard()).filter((line) => line.startsWith(beginning)).length;
}
