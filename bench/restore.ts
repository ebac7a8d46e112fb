import assert from 'node:assert/strict';
import { globalAgent } from 'node:http';
import { GUEST_AGENT_PORT } from '@nestbox/contract';
import { Sandbox } from 'e2b';
import { runCommand } from '../packages/cli/src/client/command-session.ts';
import { connectToGuest } from '../packages/cli/src/client/guest-agent.ts';
import type { TestServer } from '../test/support/server.ts';
import { type BareSnapshot, bareRestore } from './bare-restore.ts';
import { describeSeries, type Measure } from './measure.ts';
import { interleave, Series, timed } from './series.ts';

/** A create that restores, to the response and to its first command's output. */
export async function measureRestore(server: TestServer, snapshot: BareSnapshot, rounds: number): Promise<Measure[]> {
  const toResponse = await interleave(
    rounds,
    () => createOnce(server),
    () => restoreOnce(snapshot),
  );
  const toOutput = await interleave(
    rounds,
    () => createOnce(server, async (sandbox) => assert.equal((await sandbox.commands.run('echo ok')).stdout, 'ok\n')),
    () => restoreOnce(snapshot, () => firstCommand(snapshot.slot.hostReachableAddress)),
  );
  return [
    {
      title: 'Create (a restore) to the response',
      ours: describeSeries(toResponse.ours, 'ms'),
      floor: describeSeries(toResponse.floor, 'ms'),
      judged: toResponse.ours.median / toResponse.floor.median,
      limit: { kind: 'at most', value: 1.5, unit: '×' },
      method: `\`Sandbox.create()\` of the e2b client until it returns (API, network, limits, disk layer, restore, settings, clock and randomness of the guest), without a warm pool, against a bare QEMU (${snapshot.vcpuCount} vCPUs, ${snapshot.memoryMib} MiB) that restores the same snapshot on a network made before, until the agent answers \`/health\`.`,
    },
    {
      title: "Create to its first command's output",
      ours: describeSeries(toOutput.ours, 'ms'),
      floor: describeSeries(toOutput.floor, 'ms'),
      judged: toOutput.ours.median / toOutput.floor.median,
      limit: { kind: 'at most', value: 1.3, unit: '×' },
      method:
        "The same, and then `commands.run('echo ok')`, against the bare restore and the same `bash -l -c` asked of the guest agent at its own address.",
    },
  ];
}

/** From the pool: the VM has been restored before, and has run a command. */
export async function measureWarmCreate(
  server: TestServer,
  rounds: number,
  whenWarm: () => Promise<void>,
): Promise<Measure> {
  const ours = new Series();
  for (let round = 0; round < rounds; round++) {
    await whenWarm();
    ours.add(await createOnce(server));
  }
  return {
    title: 'Create from the warm pool, to the response',
    ours: describeSeries(ours, 'ms', 1),
    floor: undefined,
    judged: ours.median,
    limit: { kind: 'at most', value: 25, unit: 'ms' },
    method: '`Sandbox.create()` of the e2b client with `nestbox up --warm base=2`, each time when both VMs wait.',
  };
}

async function createOnce(
  server: TestServer,
  use: (sandbox: Sandbox) => Promise<void> = async () => {},
): Promise<number> {
  let sandbox: Sandbox | undefined;
  const elapsedMs = await timed(async () => {
    sandbox = await Sandbox.create({ ...server.connection, timeoutMs: 120_000 });
    await use(sandbox);
  });
  await sandbox?.kill();
  return elapsedMs;
}

async function restoreOnce(snapshot: BareSnapshot, use: () => Promise<void> = async () => {}): Promise<number> {
  let vm: AsyncDisposable | undefined;
  const elapsedMs = await timed(async () => {
    vm = await bareRestore(snapshot);
    await use();
  });
  await vm?.[Symbol.asyncDispose]();
  // Its connections lead to the next round's VM, which does not know them.
  globalAgent.destroy();
  return elapsedMs;
}

async function firstCommand(address: string): Promise<void> {
  const guest = connectToGuest(
    { apiUrl: '', apiKey: '', sandboxUrl: `http://${address}:${GUEST_AGENT_PORT}` },
    { sandboxId: 'bare', accessToken: undefined, domain: undefined },
  );
  let output = '';
  const collect = async (bytes: Uint8Array) => {
    output += Buffer.from(bytes).toString('utf8');
  };
  const spec = { file: '/bin/bash', args: ['-l', '-c', 'echo ok'], envVars: {}, cwd: undefined, timeoutMs: undefined };
  const streams = { input: undefined, writeOutput: collect, writeError: collect };
  await runCommand(guest, spec, streams, new AbortController().signal);
  assert.equal(output, 'ok\n');
}
