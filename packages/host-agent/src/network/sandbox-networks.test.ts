import assert from 'node:assert/strict';
import { linkSync } from 'node:fs';
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { createLogger, runCommand } from '@nestbox/kit';
import { z } from 'zod';
import { closedRanges } from './closed-ranges.ts';
import { HostFirewall } from './host-firewall.ts';
import { createSandboxNetworks } from './sandbox-networks.ts';
import { LAST_SLOT, tapOwnerUid } from './slot.ts';
import { kernelState } from './testing/kernel-state.ts';
import { insidePrivateHost } from './testing/private-host.ts';

const logger = createLogger({ level: 'silent' });
const dnsUpstream = '203.0.113.53';

/** Below /run, which is private here and goes with the test. */
async function newSlotsDir(): Promise<string> {
  return join(await mkdtemp('/run/test-'), 'slots');
}

function code(expected: string) {
  return (error: unknown) => error instanceof NestboxError && error.code === expected;
}

/** Puts a command in front of the real one of the same name, for this process, until the test ends. */
async function replaceCommand(t: TestContext, name: string, script: string): Promise<void> {
  const folder = await mkdtemp('/run/bin-');
  await writeFile(join(folder, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const path = process.env.PATH ?? '';
  process.env.PATH = `${folder}:${path}`;
  t.after(() => {
    process.env.PATH = path;
  });
}

if (insidePrivateHost(import.meta.filename)) {
  test('a slot has its TAP, persistent, a user’s of its own, with one queue and a long one, and everything goes when it is released', async () => {
    const slotsDir = await newSlotsDir();
    const before = await kernelState(slotsDir);
    const networks = await createSandboxNetworks({ instance: 'aaaaaa', slotsDir, poolSize: 0, logger, dnsUpstream });
    const slot = await networks.acquire();
    const { stdout } = await runCommand('ip', ['-n', slot.netnsName, '-d', '-j', 'link', 'show', 'dev', slot.tapName]);
    const tap = z.tuple([z.looseObject({ txqlen: z.int(), linkinfo: z.looseObject({ info_data: z.unknown() }) })]);
    const [{ txqlen, linkinfo }] = tap.parse(JSON.parse(stdout));
    assert.equal(txqlen, 5000);
    assert.partialDeepStrictEqual(linkinfo.info_data, {
      type: 'tap',
      multi_queue: false,
      persist: true,
      user: tapOwnerUid(slot),
    });
    const during = await kernelState(slotsDir);
    assert.deepEqual(during.claims, [String(slot.index)]);
    assert.deepEqual(during.tables, ['table inet nestbox_aaaaaa']);
    await networks.release(slot);
    await networks.release(slot);
    await networks.close();
    assert.deepEqual(await kernelState(slotsDir), before);
  });

  test('the pool is filled ahead, hands out each slot once, and goes when closed; slots in use stay', async () => {
    const slotsDir = await newSlotsDir();
    const before = await kernelState(slotsDir);
    const networks = await createSandboxNetworks({ instance: 'aaaaaa', slotsDir, poolSize: 2, logger, dnsUpstream });
    const slots = await Promise.all(Array.from({ length: 5 }, () => networks.acquire()));
    assert.equal(new Set(slots.map(({ index }) => index)).size, 5);
    await networks.close();
    const during = await kernelState(slotsDir);
    assert.deepEqual(new Set(during.namespaces), new Set(slots.map(({ netnsName }) => netnsName)));
    assert.deepEqual(during.tables, ['table inet nestbox_aaaaaa']);
    await assert.rejects(networks.acquire(), code('host_unavailable'));
    for (const slot of slots) await networks.release(slot);
    assert.deepEqual(await kernelState(slotsDir), before);
  });

  test('a slot comes again only after all others', async () => {
    const slotsDir = await newSlotsDir();
    const networks = await createSandboxNetworks({ instance: 'aaaaaa', slotsDir, poolSize: 0, logger, dnsUpstream });
    const first = await networks.acquire();
    await networks.release(first);
    const second = await networks.acquire();
    await networks.release(second);
    await networks.close();
    assert.notEqual(second.index, first.index);
  });

  test('two installations never get one index, and one’s end leaves the other whole', async () => {
    const slotsDir = await newSlotsDir();
    const a = await createSandboxNetworks({ instance: 'aaaaaa', slotsDir, poolSize: 0, logger, dnsUpstream });
    const b = await createSandboxNetworks({ instance: 'bbbbbb', slotsDir, poolSize: 0, logger, dnsUpstream });
    const ofB = await b.acquire();
    const withB = await kernelState(slotsDir);
    const ofA = await Promise.all([a.acquire(), a.acquire()]);
    assert.ok(ofA.every(({ index }) => index !== ofB.index));
    for (const slot of ofA) await a.release(slot);
    await a.close();
    assert.deepEqual(await kernelState(slotsDir), {
      ...withB,
      tables: ['table inet nestbox_bbbbbb'],
    });
    await b.release(ofB);
    await b.close();
  });

  test('a failure half-way through set-up leaves nothing', async (t) => {
    const slotsDir = await newSlotsDir();
    const networks = await createSandboxNetworks({ instance: 'aaaaaa', slotsDir, poolSize: 0, logger, dnsUpstream });
    const before = await kernelState(slotsDir);
    await replaceCommand(t, 'nsenter', 'echo "no entry today" >&2; exit 1');
    await assert.rejects(networks.acquire(), (error) => {
      assert.ok(code('internal')(error));
      assert.match(String(error), /no entry today/);
      return true;
    });
    assert.deepEqual(await kernelState(slotsDir), before);
    await networks.close();
  });

  test('a failure inside the namespace leaves nothing', async (t) => {
    const slotsDir = await newSlotsDir();
    const networks = await createSandboxNetworks({ instance: 'aaaaaa', slotsDir, poolSize: 0, logger, dnsUpstream });
    const before = await kernelState(slotsDir);
    const { stdout: realIp } = await runCommand('sh', ['-c', 'command -v ip']);
    await replaceCommand(
      t,
      'ip',
      `in=$(cat); case "$in" in *tuntap*) exit 1;; esac; echo "$in" | exec ${realIp.trim()} "$@"`,
    );
    await assert.rejects(networks.acquire(), code('internal'));
    process.env.PATH = process.env.PATH?.split(':').slice(1).join(':');
    assert.deepEqual(await kernelState(slotsDir), before);
    await networks.close();
  });

  test('a removal that fails says so, keeps the claim, and can be repeated', async (t) => {
    const slotsDir = await newSlotsDir();
    const networks = await createSandboxNetworks({ instance: 'aaaaaa', slotsDir, poolSize: 0, logger, dnsUpstream });
    const slot = await networks.acquire();
    const path = process.env.PATH;
    await replaceCommand(t, 'ip', 'cat >/dev/null; exit 1');
    await assert.rejects(networks.release(slot), (error) => {
      assert.ok(code('internal')(error));
      assert.match(String(error), new RegExp(`\\b${slot.index}\\b`));
      return true;
    });
    process.env.PATH = path;
    assert.deepEqual((await kernelState(slotsDir)).claims, [String(slot.index)]);
    await networks.release(slot);
    await networks.close();
    assert.deepEqual((await kernelState(slotsDir)).claims, []);
  });

  test('a slot that nobody waits for any more goes into the pool or away', async () => {
    const slotsDir = await newSlotsDir();
    const before = await kernelState(slotsDir);
    const networks = await createSandboxNetworks({ instance: 'aaaaaa', slotsDir, poolSize: 0, logger, dnsUpstream });
    const controller = new AbortController();
    const acquiring = networks.acquire(controller.signal);
    controller.abort(new Error('the client went away'));
    await assert.rejects(acquiring, code('deadline_exceeded'));
    await assert.rejects(networks.acquire(AbortSignal.abort()), code('deadline_exceeded'));
    await networks.close();
    assert.deepEqual(await kernelState(slotsDir), before);
  });

  test('when all indexes are taken the error says so, and one that is free is found', async () => {
    const slotsDir = await newSlotsDir();
    await mkdir(slotsDir, { recursive: true });
    const taken = Array.from({ length: LAST_SLOT }, (_, i) => i + 1).filter((index) => index !== 20_000);
    await writeFile(join(slotsDir, '.bbbbbb'), 'bbbbbb\n');
    for (const index of taken) linkSync(join(slotsDir, '.bbbbbb'), join(slotsDir, String(index)));
    const networks = await createSandboxNetworks({ instance: 'aaaaaa', slotsDir, poolSize: 0, logger, dnsUpstream });
    const slot = await networks.acquire();
    assert.equal(slot.index, 20_000);
    await assert.rejects(networks.acquire(), code('host_capacity'));
    await networks.release(slot);
    await networks.close();
  });

  test('missing commands, bad settings and a missing privilege are told apart', async (t) => {
    const slotsDir = await newSlotsDir();
    await assert.rejects(
      createSandboxNetworks({ instance: 'aaaaaa', slotsDir, poolSize: 0, logger, dnsUpstream: 'dns.example' }),
      code('invalid_request'),
    );
    const path = process.env.PATH;
    process.env.PATH = '/nonexistent';
    t.after(() => {
      process.env.PATH = path;
    });
    await assert.rejects(
      createSandboxNetworks({ instance: 'aaaaaa', slotsDir, poolSize: 0, logger, dnsUpstream }),
      (error) => code('not_set_up')(error) && /apt-get install nftables/.test(String(error)),
    );
  });

  test('rules that somebody removed or changed are put back, and the resolver is followed', async () => {
    const firewall = new HostFirewall({ instance: 'eeeeee', dnsUpstream, closed: closedRanges([]), logger });
    const list = async () => (await runCommand('nft', ['list', 'table', 'inet', 'nestbox_eeeeee'])).stdout;
    await firewall.ensure();
    const rules = await list();
    await runCommand('nft', ['flush', 'ruleset']);
    await writeFile('/proc/sys/net/ipv4/ip_forward', '0');
    await firewall.ensure();
    assert.equal(await list(), rules);
    assert.equal((await runCommand('cat', ['/proc/sys/net/ipv4/ip_forward'])).stdout, '1\n');
    await runCommand('nft', ['flush', 'chain', 'inet', 'nestbox_eeeeee', 'to_host']);
    await firewall.ensure();
    assert.equal(await list(), rules);
    await firewall.remove();
    await assert.rejects(list());
  });
}
