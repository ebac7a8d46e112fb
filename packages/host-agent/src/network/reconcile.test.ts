import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { createLogger, runCommand } from '@nestbox/kit';
import { z } from 'zod';
import { createSandboxNetworks } from './sandbox-networks.ts';
import { type SlotPlan, slotPlan } from './slot.ts';
import { OPEN_RULES } from './slot-rules.ts';
import { FakeGuest } from './testing/fake-guest.ts';
import { kernelState } from './testing/kernel-state.ts';
import { makeOutsideWorld, PUBLIC_RESOLVER, PUBLIC_SERVER } from './testing/outside-world.ts';
import { insidePrivateHost } from './testing/private-host.ts';
import type { RemoteTraffic } from './testing/remote-traffic.ts';
import { Traffic } from './testing/traffic.ts';

const instance = 'aaaaaa';
const logger = createLogger({ level: 'silent' });

/** A host agent that took slots, closed the first one's way to the internet, and was killed. Returns what it had. */
async function crashedPredecessor(slotsDir: string, count: number): Promise<SlotPlan[]> {
  const program = join(import.meta.dirname, 'testing', 'crashing-owner.ts');
  const child = spawn(process.execPath, [program, instance, slotsDir, String(count)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [line] = await once(createInterface(child.stdout), 'line');
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
  return z
    .array(z.int())
    .parse(JSON.parse(String(line)))
    .map((index) => slotPlan(instance, index));
}

function successor(slotsDir: string) {
  return createSandboxNetworks({ instance, slotsDir, poolSize: 0, logger, dnsUpstream: PUBLIC_RESOLVER });
}

async function newSlotsDir(): Promise<string> {
  return join(await mkdtemp('/run/test-'), 'slots');
}

if (insidePrivateHost(import.meta.filename)) {
  let outside: RemoteTraffic;
  before(async () => {
    outside = await makeOutsideWorld();
  });
  after(() => outside.stop());

  test('after a crash slots in use go on, connections and all, and everything else of the installation goes', async (t) => {
    const host = new Traffic();
    t.after(() => host.close());
    const slotsDir = await newSlotsDir();
    const [closed, open, unused] = await crashedPredecessor(slotsDir, 3);
    assert.ok(closed !== undefined && open !== undefined && unused !== undefined);
    const guest = await FakeGuest.boot(open);
    t.after(() => guest.powerOff());
    const shutIn = await FakeGuest.boot(closed);
    t.after(() => shutIn.powerOff());
    await guest.traffic.listenTcp('0.0.0.0', 3000);
    await host.open('long', open.hostReachableAddress, 3000);
    await guest.traffic.open('out', PUBLIC_SERVER, 80);

    const networks = await successor(slotsDir);
    const report = await networks.reconcile([open.index, closed.index]);
    assert.deepEqual(
      report.kept,
      [open.index, closed.index].sort((a, b) => a - b),
    );
    assert.deepEqual(report.lost, []);
    assert.ok(report.removed.includes(unused.netnsName));

    host.write('long', 'still here');
    await host.waitFor('long', 'still here');
    await guest.traffic.write('out', 'still out');
    await guest.traffic.waitFor('out', 'still out');
    assert.equal(await guest.traffic.askUdp(PUBLIC_SERVER, 80, 'new'), 'new');
    assert.equal(await shutIn.traffic.askTcp(PUBLIC_SERVER, 80, 'closed?'), 'EHOSTUNREACH');
    const state = await kernelState(slotsDir);
    assert.deepEqual(new Set(state.claims.map(Number)), new Set(report.kept));
    assert.deepEqual(state.links.filter((name) => name?.startsWith('nb-')).length, 2);

    for (const slot of [open, closed]) await networks.release(slot);
    await networks.close();
    assert.deepEqual((await kernelState(slotsDir)).claims, []);
    assert.deepEqual((await kernelState(slotsDir)).tables, []);
  });

  test('half-made remains go, and nothing of anybody else', async () => {
    const slotsDir = await newSlotsDir();
    const foreign = slotPlan('bbbbbb', 40);
    await runCommand('ip', ['-batch', '-'], {
      input: `netns add ${foreign.netnsName}
netns add somebodys
link add ${foreign.vethName} type bridge
link add nb-mine type bridge
link add lan7 type bridge
`,
    });
    await runCommand('nft', ['add', 'table', 'inet', 'nestbox_bbbbbb']);
    await mkdir(slotsDir, { recursive: true });
    await writeFile(join(slotsDir, '40'), 'bbbbbb\n');
    const before = await kernelState(slotsDir);

    await runCommand('ip', ['netns', 'add', slotPlan(instance, 1).netnsName]);
    await runCommand('ip', ['link', 'add', slotPlan(instance, 2).vethName, 'type', 'bridge']);
    await writeFile(join(slotsDir, '3'), `${instance}\n`);
    await writeFile(join('/run/netns', slotPlan(instance, 4).netnsName), '');
    await runCommand('nft', ['add', 'table', 'inet', `nestbox_${instance}`]);

    const networks = await successor(slotsDir);
    const report = await networks.reconcile([]);
    assert.deepEqual(
      new Set(report.removed),
      new Set([1, 2, 3, 4].map((index) => slotPlan(instance, index).netnsName)),
    );
    await networks.close();
    assert.deepEqual(await kernelState(slotsDir), before);
    await runCommand('ip', ['-batch', '-'], {
      input: `netns del ${foreign.netnsName}
netns del somebodys
link del ${foreign.vethName}
link del nb-mine
link del lan7
`,
    });
    await runCommand('nft', ['delete', 'table', 'inet', 'nestbox_bbbbbb']);
  });

  test('what is missing of a slot in use is mended; rules that were gone come back closed', async (t) => {
    const slotsDir = await newSlotsDir();
    const [, slot] = await crashedPredecessor(slotsDir, 2);
    assert.ok(slot !== undefined);
    const guest = await FakeGuest.boot(slot);
    t.after(() => guest.powerOff());
    await guest.traffic.listenTcp('0.0.0.0', 3000);
    await runCommand('ip', ['link', 'del', slot.vethName]);
    await runCommand('nsenter', [`--net=/run/netns/${slot.netnsName}`, 'nft', 'flush', 'ruleset']);
    await rm(join(slotsDir, String(slot.index)));

    const networks = await successor(slotsDir);
    const report = await networks.reconcile([slot.index]);
    assert.deepEqual(report.kept, [slot.index]);
    const host = new Traffic();
    assert.equal(await host.askTcp(slot.hostReachableAddress, 3000, 'mended'), 'mended');
    assert.equal(await guest.traffic.askTcp(PUBLIC_SERVER, 80, 'closed?'), 'EHOSTUNREACH');
    await networks.setRules(slot, OPEN_RULES);
    assert.equal(await guest.traffic.askTcp(PUBLIC_SERVER, 80, 'open'), 'open');
    assert.deepEqual((await kernelState(slotsDir)).claims, [String(slot.index)]);
    await networks.release(slot);
    await networks.close();
  });

  test('a slot in use whose namespace is gone is lost, and so is one that another installation claims', async () => {
    const slotsDir = await newSlotsDir();
    const [gone, stolen] = await crashedPredecessor(slotsDir, 2);
    assert.ok(gone !== undefined && stolen !== undefined);
    await runCommand('ip', ['netns', 'del', gone.netnsName]);
    await rm(join(slotsDir, String(stolen.index)));
    await writeFile(join(slotsDir, String(stolen.index)), 'bbbbbb\n');
    const networks = await successor(slotsDir);
    const report = await networks.reconcile([gone.index, stolen.index]);
    assert.deepEqual(report.kept, []);
    assert.deepEqual(
      report.lost,
      [gone.index, stolen.index].sort((a, b) => a - b),
    );
    const state = await kernelState(slotsDir);
    assert.deepEqual(state.claims, [String(stolen.index)]);
    assert.deepEqual(
      state.links.filter((name) => name?.startsWith('nb-')),
      [],
    );
    await networks.close();
  });

  test('slots of this process are left alone by a reconcile', async () => {
    const slotsDir = await newSlotsDir();
    const networks = await successor(slotsDir);
    const slot = await networks.acquire();
    const report = await networks.reconcile([]);
    assert.deepEqual(report, { kept: [], lost: [], removed: [] });
    assert.deepEqual((await kernelState(slotsDir)).claims, [String(slot.index)]);
    await networks.release(slot);
    await networks.close();
  });
}
