import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { newSandboxId, OPEN_EGRESS } from '@nestbox/contract';
import { createLogger, type Logger, type NestboxPaths, resolvePaths } from '@nestbox/kit';
import { createGuestClient } from '../guest/guest-client.ts';
import { type HostAgent, type HostAgentConfig, startHostAgent } from '../host-agent.ts';
import { readCurrentImages } from '../sandbox/current-images.ts';
import { DiskGuard } from '../sandbox/disk-guard.ts';
import { DiskNotes } from '../sandbox/disk-notes.ts';
import { resolveHostLimits } from '../sandbox/host-limits.ts';
import { ImageGuard } from '../sandbox/image-guard.ts';
import { type SandboxRecord, type Situation, sandboxRecord } from '../sandbox/record.ts';
import { rootDisksFor } from '../sandbox/root-disks-for.ts';
import type { SandboxSpec } from '../sandbox/sandbox.ts';
import type { SandboxContext } from '../sandbox/sandbox-context.ts';
import { errnoOf } from '../storage/errno.ts';
import type { TemplateFile } from '../storage/images-file.ts';
import { type HostLayout, hostLayout } from '../storage/layout.ts';
import { SandboxRecordStore } from '../storage/sandbox-records.ts';
import { TemplateStore } from '../storage/template-store.ts';
import { Telemetry } from '../telemetry/telemetry.ts';
import type { VmDriver, VmFeatures, VmMachine } from '../vmm/driver.ts';
import { createFakeDriver } from '../vmm/fake/fake-driver.ts';
import type { FakeFailures, FakeVmCommand } from '../vmm/fake/fake-options.ts';
import { fakeRunFiles } from '../vmm/fake/fake-state.ts';
import { findProcesses } from '../vmm/processes.ts';
import { LoopbackNetworks } from './loopback-networks.ts';

export const TEST_LOGGER = createLogger({ level: process.env.TEST_LOG === undefined ? 'silent' : 'debug' });

export const TEST_TEMPLATE_ID = 'base00000000000000t1';

/** A state folder with a template, and what a host agent on it needs; everything goes with the test. */
export interface TestHost {
  readonly paths: NestboxPaths;
  readonly layout: HostLayout;
  readonly networks: LoopbackNetworks;
  readonly failures: FakeFailures;
  /** In place of what the fake driver says of itself. */
  readonly features: { -readonly [F in keyof VmFeatures]?: VmFeatures[F] };
  /** What the next VMs' agents do wrong (tiny-agent.ts). */
  readonly agent: { mood: string };
  start(config?: Partial<HostAgentConfig>): Promise<HostAgent>;
  /** The rooms, for tests of what the manager composes without a manager. */
  context(): SandboxContext;
  record(sandboxId: string): Promise<SandboxRecord>;
  /** The VM of a sandbox whose record says that it runs. */
  running(sandboxId: string): Promise<Extract<Situation, { state: 'running' }>>;
  /** Names in a sandbox's folder, in order; those of the pause's state as `pause/name`. Not what comes in the background. */
  files(sandboxId: string): Promise<string[]>;
  /** What a running guest has in its memory; a test may change it. */
  memoryOf(sandboxId: string): { read(): Promise<string>; write(text: string): Promise<void> };
  /** What the guest agent of a sandbox was asked, over all its VMs' lives. */
  asked(sandboxId: string): Promise<string[]>;
  /** Processes, networks and files that are there. Empty when nothing is left. */
  leftovers(): Promise<string[]>;
}

const TINY_AGENT = join(import.meta.dirname, 'tiny-agent.ts');
/** A restored VM's agent listens already. */
const RESTORED_SIGN = 'agent: listens';

export interface TestHostOptions {
  /** In place of the fake driver. */
  readonly makeDriver?: (host: Pick<TestHost, 'paths' | 'layout' | 'networks' | 'agent'>) => VmDriver;
}

export async function makeTestHost(
  t: TestContext,
  command = tinyAgentCommand,
  options: TestHostOptions = {},
): Promise<TestHost> {
  const root = await mkdtemp(join(tmpdir(), 'nestbox-host-'));
  const { instance } = resolvePaths({ NESTBOX_DIR: root });
  const paths: NestboxPaths = { stateDir: join(root, 'state'), runDir: join(root, 'run'), instance };
  const layout = hostLayout(paths);
  await writeTestImages(layout);
  const networks = new LoopbackNetworks();
  const failures: FakeFailures = {};
  const features: TestHost['features'] = {};
  const agent = { mood: '' };
  const hosts: HostAgent[] = [];
  t.after(async () => {
    for (const host of hosts) await host.stop({ destroySandboxes: true });
    await makeDriver().removeStrays([]);
    await rm(root, { recursive: true, force: true });
  });
  const makeDriver = () =>
    options.makeDriver?.({ paths, layout, networks, agent }) ??
    testDriver(paths, networks, (address) => command(address, agent.mood), failures, features);
  const record = async (sandboxId: string) =>
    sandboxRecord.parse(JSON.parse(await readFile(layout.sandboxRecord(sandboxId), 'utf8')));
  return {
    paths,
    layout,
    networks,
    failures,
    features,
    agent,
    record,
    async start(config = {}) {
      const host = await startHostAgent({
        paths,
        logger: TEST_LOGGER,
        driver: makeDriver(),
        networks,
        // The snapshots of templates have tests of their own.
        useSnapshots: false,
        ...config,
      });
      hosts.push(host);
      return host;
    },
    context() {
      const driver = makeDriver();
      const diskNotes = new DiskNotes();
      return {
        driver,
        networks,
        layout,
        records: new SandboxRecordStore(layout, sandboxRecord),
        templates: new TemplateStore(layout),
        currentImages: () => readCurrentImages(layout),
        disks: rootDisksFor(driver, layout.layerWorkDir),
        imageGuard: new ImageGuard(),
        diskGuard: new DiskGuard(diskNotes),
        diskNotes,
        guestClient: createGuestClient,
        traffic: { drain: async () => {}, admit: () => {} },
        telemetry: new Telemetry(layout, TEST_LOGGER),
        useSnapshots: true,
        snapshotWaitMs: 20_000,
        limits: resolveHostLimits(),
        logger: TEST_LOGGER,
      };
    },
    async running(sandboxId) {
      const { situation } = await record(sandboxId);
      if (situation.state !== 'running') throw new Error(`sandbox ${sandboxId} is ${situation.state}`);
      return situation;
    },
    async files(sandboxId) {
      const entries = await readdir(layout.sandboxDir(sandboxId), { withFileTypes: true });
      const inside = await namesIn(layout.sandboxPauseDir(sandboxId));
      const names = entries.map(({ name }) => name).filter((name) => name !== 'pause' && !/^disk\.sums/.test(name));
      return [...names, ...inside.map((name) => `pause/${name}`)].sort((a, b) => a.localeCompare(b));
    },
    memoryOf(sandboxId) {
      const { memory } = fakeRunFiles(layout.sandboxRunDir(sandboxId));
      return { read: () => readFile(memory, 'utf8'), write: (text) => writeFile(memory, text) };
    },
    async asked(sandboxId) {
      const text = await readFile(layout.sandboxConsole(sandboxId), 'utf8');
      return [...text.matchAll(/^agent: ((?:GET|POST) .*)$/gm)].map(([, call]) => call ?? '');
    },
    async leftovers() {
      const isOurs = (words: readonly string[]) => words.some((word) => word.includes(paths.runDir));
      const processes = await Promise.all([findProcesses('environ', isOurs), findProcesses('cmdline', isOurs)]);
      return [
        ...processes.flat().map(({ identity }) => `process ${identity.pid}`),
        ...[...networks.inUse.keys()].map((index) => `slot ${index}`),
        ...(await readdir(layout.sandboxesDir)).map((name) => `sandbox folder ${name}`),
        ...(await namesIn(layout.transitDir)).map((name) => `on its way ${name}`),
        ...(await namesIn(paths.runDir)).filter((name) => name !== 'host-proxy.sock').map((name) => `run ${name}`),
      ];
    },
  };
}

/** The run folder itself goes with the host agent; other folders come when they are needed. */
async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

/** A fake driver whose VMs are the given processes, each on the address of its slot. */
export function testDriver(
  paths: NestboxPaths,
  networks: LoopbackNetworks,
  command: (address: string) => FakeVmCommand,
  failures: FakeFailures = {},
  features: Partial<VmFeatures> = {},
): VmDriver {
  return createFakeDriver({
    runRoot: paths.runDir,
    logger: TEST_LOGGER,
    stopGraceMs: 200,
    failures,
    features,
    restoredSign: RESTORED_SIGN,
    command: (spec) => command(addressOf(networks, spec)),
  });
}

export function testSpec(overrides: Partial<SandboxSpec> = {}): SandboxSpec {
  return {
    sandboxId: newSandboxId(),
    templateId: 'base',
    envVars: {},
    accessToken: undefined,
    ...OPEN_EGRESS,
    ...overrides,
  };
}

export function tinyAgentCommand(address: string, mood: string): FakeVmCommand {
  return { command: [process.execPath, TINY_AGENT, `${address}:49983`, mood] };
}

export function addressOf(networks: LoopbackNetworks, spec: VmMachine): string {
  for (const slot of networks.inUse.values())
    if (slot.netnsName === spec.network.netnsName) return slot.hostReachableAddress;
  throw new Error(`no slot is named ${spec.network.netnsName}`);
}

/** Collects what is logged, for tests of what the operator is told. */
export function recordingLogger() {
  const lines: { readonly level: 'info' | 'warn' | 'error'; readonly fields: unknown; readonly text: string }[] = [];
  const at =
    (level: 'info' | 'warn' | 'error') =>
    (fields: unknown, text = '') => {
      lines.push({ level, fields, text });
    };
  const logger: Logger = Object.assign(Object.create(TEST_LOGGER), {
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
  });
  return { logger, lines };
}

/** Writes a template of which no VMM reads anything. */
export async function writeTestTemplate(
  layout: HostLayout,
  changes: Partial<TemplateFile> = {},
): Promise<TemplateFile> {
  const template: TemplateFile = {
    templateId: TEST_TEMPLATE_ID,
    names: ['base'],
    vcpuCount: 2,
    memoryMib: 512,
    diskMib: 1024,
    defaultUser: 'user',
    envVars: { FROM_TEMPLATE: 'yes', BOTH: 'template' },
    createdAtMs: 1_700_000_000_000,
    ...changes,
  };
  await mkdir(layout.templateDir(template.templateId), { recursive: true });
  await writeFile(layout.templateRootfs(template.templateId), Buffer.alloc(1024 * 1024));
  await writeFile(layout.templateFile(template.templateId), JSON.stringify(template));
  return template;
}

/** As set-up writes them; no VMM reads them. */
export async function writeTestImages(
  layout: HostLayout,
  {
    kernelVersion = '6.1.0-test',
    agentDiskHash = 'abc',
    kernelPath = '/nonexistent/vmlinux',
    initrdPath = '/nonexistent/initrd',
  } = {},
): Promise<void> {
  if (!existsSync(layout.templatesDir)) await writeTestTemplate(layout);
  await mkdir(layout.agentDir, { recursive: true });
  await writeFile(layout.agentDisk(agentDiskHash), `the agent disk ${agentDiskHash}`);
  await writeFile(
    layout.currentImages,
    JSON.stringify({
      kernelVersion,
      kernelPath,
      initrdPath,
      agentDiskPath: layout.agentDisk(agentDiskHash),
      agentDiskHash,
    }),
  );
}
