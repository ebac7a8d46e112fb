import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { newSandboxId } from '@nestbox/contract';
import { createLogger, type NestboxPaths, resolvePaths } from '@nestbox/kit';
import { type HostAgent, type HostAgentConfig, startHostAgent } from '../host-agent.ts';
import type { SandboxSpec } from '../sandbox/sandbox.ts';
import { type HostLayout, hostLayout } from '../storage/layout.ts';
import type { VmDriver, VmSpec } from '../vmm/driver.ts';
import { createFakeDriver, type FakeFailures, type FakeVmCommand } from '../vmm/fake/fake-driver.ts';
import { findProcesses } from '../vmm/processes.ts';
import { LoopbackNetworks } from './loopback-networks.ts';

export const TEST_LOGGER = createLogger({ level: process.env.TEST_LOG === undefined ? 'silent' : 'debug' });

/** A state folder with a template, and what a host agent on it needs; everything goes with the test. */
export interface TestHost {
  readonly paths: NestboxPaths;
  readonly layout: HostLayout;
  readonly networks: LoopbackNetworks;
  readonly failures: FakeFailures;
  /** What the next VMs' agents do wrong (tiny-agent.ts). */
  readonly agent: { mood: string };
  start(config?: Partial<HostAgentConfig>): Promise<HostAgent>;
  /** Processes, networks and files that are there. Empty when nothing is left. */
  leftovers(): Promise<string[]>;
}

const TINY_AGENT = join(import.meta.dirname, 'tiny-agent.ts');

export async function makeTestHost(t: TestContext, command = tinyAgentCommand): Promise<TestHost> {
  const root = await mkdtemp(join(tmpdir(), 'nestbox-host-'));
  const { instance } = resolvePaths({ NESTBOX_DIR: root });
  const paths: NestboxPaths = { stateDir: join(root, 'state'), runDir: join(root, 'run'), instance };
  const layout = hostLayout(paths);
  await writeTestImages(layout);
  const networks = new LoopbackNetworks();
  const failures: FakeFailures = {};
  const agent = { mood: '' };
  const hosts: HostAgent[] = [];
  t.after(async () => {
    for (const host of hosts) await host.stop({ destroySandboxes: true });
    await makeDriver().removeStrays([]);
    await rm(root, { recursive: true, force: true });
  });
  const makeDriver = () => testDriver(paths, networks, (address) => command(address, agent.mood), failures);
  return {
    paths,
    layout,
    networks,
    failures,
    agent,
    async start(config = {}) {
      const host = await startHostAgent({ paths, logger: TEST_LOGGER, driver: makeDriver(), networks, ...config });
      hosts.push(host);
      return host;
    },
    async leftovers() {
      const processes = await findProcesses('environ', (words) => words.some((word) => word.includes(paths.runDir)));
      return [
        ...processes.map(({ identity }) => `process ${identity.pid}`),
        ...[...networks.inUse.keys()].map((index) => `slot ${index}`),
        ...(await readdir(layout.sandboxesDir)).map((name) => `sandbox folder ${name}`),
        ...(await namesIn(paths.runDir)).filter((name) => name !== 'host-proxy.sock').map((name) => `run ${name}`),
      ];
    },
  };
}

/** The run folder itself goes with the host agent. */
async function namesIn(folder: string): Promise<string[]> {
  return existsSync(folder) ? await readdir(folder) : [];
}

/** A fake driver whose VMs are the given processes, each on the address of its slot. */
export function testDriver(
  paths: NestboxPaths,
  networks: LoopbackNetworks,
  command: (address: string) => FakeVmCommand,
  failures: FakeFailures = {},
): VmDriver {
  return createFakeDriver({
    runRoot: paths.runDir,
    logger: TEST_LOGGER,
    stopGraceMs: 200,
    failures,
    command: (spec) => command(addressOf(networks, spec)),
  });
}

export function testSpec(overrides: Partial<SandboxSpec> = {}): SandboxSpec {
  return {
    sandboxId: newSandboxId(),
    templateId: 'base',
    envVars: {},
    accessToken: undefined,
    allowInternetAccess: true,
    ...overrides,
  };
}

export function tinyAgentCommand(address: string, mood: string): FakeVmCommand {
  return { command: [process.execPath, TINY_AGENT, `${address}:49983`, mood] };
}

function addressOf(networks: LoopbackNetworks, spec: VmSpec): string {
  for (const slot of networks.inUse.values())
    if (slot.netnsName === spec.network.netnsName) return slot.hostReachableAddress;
  throw new Error(`no slot is named ${spec.network.netnsName}`);
}

/** A template and images that no VMM reads. */
async function writeTestImages(layout: HostLayout): Promise<void> {
  await mkdir(layout.templateDir('base00000000000000t1'), { recursive: true });
  await writeFile(layout.templateRootfs('base00000000000000t1'), Buffer.alloc(1024 * 1024));
  await writeFile(
    layout.templateFile('base00000000000000t1'),
    JSON.stringify({
      templateId: 'base00000000000000t1',
      names: ['base'],
      vcpuCount: 2,
      memoryMib: 512,
      diskMib: 1024,
      defaultUser: 'user',
      envVars: { FROM_TEMPLATE: 'yes', BOTH: 'template' },
      createdAtMs: 1_700_000_000_000,
    }),
  );
  await writeFile(
    layout.currentImages,
    JSON.stringify({
      kernelVersion: '6.1.0-test',
      kernelPath: '/nonexistent/vmlinux',
      initrdPath: '/nonexistent/initrd',
      agentDiskPath: '/nonexistent/agent.ext4',
      agentDiskHash: 'abc',
    }),
  );
}
