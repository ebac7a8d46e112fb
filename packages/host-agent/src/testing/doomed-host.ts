import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { newSandboxId } from '@nestbox/contract';
import type { HostAgentConfig } from '../host-agent.ts';
import { startHostAgent } from '../host-agent.ts';
import { sandboxRecord } from '../sandbox/record.ts';
import type { SandboxSpec } from '../sandbox/sandbox.ts';
import { hostLayout } from '../storage/layout.ts';
import type { FakeFailures } from '../vmm/fake/fake-options.ts';
import { fakeRunFiles } from '../vmm/fake/fake-state.ts';
import { readProcessState } from '../vmm/processes.ts';
import { LoopbackNetworks } from './loopback-networks.ts';
import { until } from './sandbox-checks.ts';
import { TEST_LOGGER, TEST_TEMPLATE_ID, testDriver, testSpec, tinyAgentCommand } from './test-host.ts';

/**
 * A host agent in a process of its own, to be killed: comes to the moment that it is told, says the ids of its sandboxes on
 * standard output, and stays. Arguments: state folder, run folder, instance, moment.
 */
const [, , stateDir = '', runDir = '', instance = '', moment = ''] = process.argv;
const paths = { stateDir, runDir, instance };
const layout = hostLayout(paths);
const networks = new LoopbackNetworks();
const failures: FakeFailures = {};
let mood = '';
const NEVER = new Promise<void>(() => {});
const WITH_MEMORY = { memory: true };

async function start(config: Partial<HostAgentConfig> = {}) {
  const driver = testDriver(paths, networks, (address) => tinyAgentCommand(address, mood), failures);
  const host = await startHostAgent({ paths, logger: TEST_LOGGER, driver, networks, useSnapshots: false, ...config });
  return host.manager;
}

/** A host with a sandbox that has something in its memory. */
async function startWithOne() {
  const manager = await start();
  const spec = testSpec({ accessToken: 'secret' });
  await manager.create(spec);
  const { sandboxId } = spec;
  writeMemory(sandboxId);
  return { manager, sandboxId, spec };
}

function writeMemory(sandboxId: string): void {
  writeFileSync(fakeRunFiles(layout.sandboxRunDir(sandboxId)).memory, 'what it remembers');
}

function say(said: { readonly [name: string]: string | SandboxSpec }): void {
  process.stdout.write(`${JSON.stringify(said)}\n`);
}

/** Until something has been written to the console of a VM that is not there yet. */
async function untilAsked(sandboxId: string, times: number): Promise<void> {
  await until('the settings', () => {
    const text = existsSync(layout.sandboxConsole(sandboxId))
      ? readFileSync(layout.sandboxConsole(sandboxId), 'utf8')
      : '';
    return (text.match(/^agent: POST \/init$/gm) ?? []).length === times;
  });
}

const MOMENTS: Readonly<Record<string, () => Promise<void>>> = {
  async 'one runs, one starts'() {
    const { manager, spec: running } = await startWithOne();
    mood = 'deaf';
    const starting = testSpec();
    void manager.create(starting);
    say({ running, starting });
  },
  async 'a pause is saving'() {
    const { manager, sandboxId } = await startWithOne();
    failures.saveGate = NEVER;
    void manager.pause(sandboxId, WITH_MEMORY);
    await until('the pause', () => existsSync(layout.sandboxPauseDraft(sandboxId)));
    say({ sandboxId });
  },
  async 'a pause is recorded'() {
    const { manager, sandboxId } = await startWithOne();
    failures.destroyGate = NEVER;
    await manager.pause(sandboxId, WITH_MEMORY);
    say({ sandboxId });
  },
  async 'a resume waits for its guest'() {
    const { manager, sandboxId } = await startWithOne();
    await manager.pause(sandboxId, WITH_MEMORY);
    mood = 'mute';
    void manager.resume(sandboxId, WITH_MEMORY);
    await untilAsked(sandboxId, 2);
    say({ sandboxId });
  },
  async 'a boot from the disk waits for its guest'() {
    const { manager, sandboxId } = await startWithOne();
    await manager.pause(sandboxId, WITH_MEMORY);
    mood = 'mute';
    void manager.resume(sandboxId, { memory: false });
    await untilAsked(sandboxId, 2);
    say({ sandboxId });
  },
  async 'a fork has switched the disk'() {
    const { manager, sandboxId } = await startWithOne();
    const { disk } = fakeRunFiles(layout.sandboxRunDir(sandboxId));
    const before = readFileSync(disk, 'utf8');
    failures.resumeGate = NEVER;
    void manager.fork(sandboxId, [{ sandboxId: newSandboxId(), accessToken: undefined }]);
    await until('the switch', () => readFileSync(disk, 'utf8') !== before);
    say({ sandboxId });
  },
  async 'a fork starts its copy'() {
    const { manager, sandboxId } = await startWithOne();
    mood = 'mute';
    const copy = newSandboxId();
    void manager.fork(sandboxId, [{ sandboxId: copy, accessToken: undefined }]);
    await untilAsked(copy, 1);
    say({ sandboxId, copy });
  },
  async 'a snapshot is saving'() {
    const { manager, sandboxId } = await startWithOne();
    failures.saveGate = NEVER;
    void manager.snapshot(sandboxId, { templateId: 'snap', names: [] });
    const { situation } = sandboxRecord.parse(JSON.parse(readFileSync(layout.sandboxRecord(sandboxId), 'utf8')));
    const pid = situation.state === 'running' ? situation.vm.process.pid : 0;
    await until('the snapshot', () => readProcessState(pid) === 'T');
    say({ sandboxId });
  },
  async 'a template’s snapshot is saving'() {
    failures.saveGate = NEVER;
    await start({ useSnapshots: true });
    await until('the snapshot', () => existsSync(layout.transitDir) && readdirSync(layout.transitDir).length > 0);
    say({});
  },
  async 'a VM waits'() {
    const manager = await start({ warm: [{ templateId: 'base', count: 1 }] });
    await until('a VM', () => manager.warmSandboxIds(TEST_TEMPLATE_ID).length === 1);
    say({});
  },
};

await MOMENTS[moment]?.();
setInterval(() => {}, 60_000);
