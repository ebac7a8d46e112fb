import { mkdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ConnectRouter } from '@connectrpc/connect';
import { NestboxError } from '@nestbox/contract';
import type { Logger, NestboxPaths } from '@nestbox/kit';
import type { Registry } from '@nestbox/kit/metrics';
import { type HostDescription, prepareDescription } from './describe-host.ts';
import { describeDenial } from './egress/describe-denial.ts';
import { GuardedNetworks } from './egress/guarded-networks.ts';
import { createGuestClient } from './guest/guest-client.ts';
import { parseOpenedRanges } from './network/closed-ranges.ts';
import type { SandboxNetworks } from './network/network.ts';
import { createSandboxNetworks } from './network/sandbox-networks.ts';
import { observeHost } from './observe-host.ts';
import { createHostProxy, type HostProxy } from './proxy/host-proxy.ts';
import { listenForProxyTraffic } from './proxy/proxy-server.ts';
import { hostRoutes } from './rpc/host-routes.ts';
import { readCurrentImages } from './sandbox/current-images.ts';
import { DiskGuard } from './sandbox/disk-guard.ts';
import { DiskNotes } from './sandbox/disk-notes.ts';
import { type HostLimits, resolveHostLimits } from './sandbox/host-limits.ts';
import { ImageGuard } from './sandbox/image-guard.ts';
import { createSandboxManager } from './sandbox/manager.ts';
import { sandboxRecord } from './sandbox/record.ts';
import { rootDisksFor } from './sandbox/root-disks-for.ts';
import type { SandboxManager, StopOptions } from './sandbox/sandbox.ts';
import type { SandboxTraffic } from './sandbox/sandbox-context.ts';
import { DEFAULT_SCRUB, type ScrubSettings } from './sandbox/scrubber.ts';
import { requireOwnVms, vmmsInUse } from './sandbox/vmms-in-use.ts';
import type { WarmOrder } from './sandbox/warm-order.ts';
import { readOrMakeHostId } from './storage/host-id.ts';
import { hostLayout } from './storage/layout.ts';
import { makePrivateFolder } from './storage/private-folder.ts';
import { SandboxRecordStore } from './storage/sandbox-records.ts';
import { acquireStateLock } from './storage/state-lock.ts';
import { TemplateStore } from './storage/template-store.ts';
import { Telemetry } from './telemetry/telemetry.ts';
import type { VmDriver, VmmName } from './vmm/driver.ts';
import { selectDriver } from './vmm/select.ts';

/** Clients give a create 60 s, of which a boot beside the making may take half where there is no KVM. */
const SNAPSHOT_WAIT_MS = 20_000;

export interface HostAgentConfig {
  readonly paths: NestboxPaths;
  readonly logger: Logger;
  readonly limits?: Partial<HostLimits>;
  /** Name of a VM driver. Default `auto`. */
  readonly vmm?: string;
  /** Default `auto`: KVM when a probe guest runs under it. */
  readonly accelerator?: 'auto' | 'kvm' | 'tcg';
  /** VMs to keep restored for the next creates. Default none. */
  readonly warm?: readonly WarmOrder[];
  /** False: every create boots, and no snapshots of templates are made. Default true. */
  readonly useSnapshots?: boolean;
  /** How long a create waits for a snapshot of its template that is being made, before it boots. Default 20 s. */
  readonly snapshotWaitMs?: number;
  /** False: snapshots that templates lack are made at the first create or by `manager.prepareTemplates`. Default true. */
  readonly prepareAtStart?: boolean;
  /** How often all that rests here is read. Default once a day. */
  readonly scrub?: Partial<ScrubSettings>;
  /** Where numbers for Prometheus go. None are kept when it is not given. */
  readonly metrics?: Registry;
  /** Prepared network slots to keep. Default 8. */
  readonly networkPoolSize?: number;
  /** Private addresses and CIDR blocks that sandboxes may reach. Default none. */
  readonly allowPrivate?: readonly string[];
  /** In place of the driver above and of real namespaces; for tests. */
  readonly driver?: VmDriver;
  readonly networks?: SandboxNetworks;
}

/** One machine's sandboxes. */
export interface HostAgent {
  /** The same after each start; tells hosts apart, also those of one machine. */
  readonly hostId: string;
  /** Registers host.v1; for createRouterTransport (in memory) or connectNodeAdapter. */
  readonly routes: (router: ConnectRouter) => void;
  readonly manager: SandboxManager;
  /** To mount on other listeners than `proxySocketPath`. */
  readonly proxy: HostProxy;
  /** `/proxy/<sandboxId>/<port>/…` over HTTP/1.1. */
  readonly proxySocketPath: string;
  /** The first call on a machine probes KVM, which can take seconds. */
  describe(signal?: AbortSignal): Promise<HostDescription>;
  /** Everything but the VMs ends, and those too when asked to. Repeating it is fine; the first call's options count. */
  stop(options?: StopOptions): Promise<void>;
}

const DEFAULT_NETWORK_POOL_SIZE = 8;

/**
 * Takes the state folder's lock, finds again what runs, and listens for proxy traffic. Neither pool nor probe is waited
 * for, but where several VM managers are installed and none is named. Throws NestboxError: state_dir_in_use (another host agent has
 * this folder), conflict (its sandboxes run on another VM manager than the one that was named), not_set_up (no root, ip or nft). A
 * host without images or VMM starts all the same; its creates answer not_set_up. When it throws, nothing is left.
 */
export async function startHostAgent(config: HostAgentConfig): Promise<HostAgent> {
  const { paths, logger } = config;
  const layout = hostLayout(paths);
  await using undo = new AsyncDisposableStack();
  for (const folder of [paths.stateDir, paths.runDir]) await mkdir(folder, { recursive: true, mode: 0o700 });
  // Memory and disks, of which a VMM's user may read the files of its own sandbox.
  for (const folder of [layout.sandboxesDir, layout.templatesDir]) await makePrivateFolder(folder);
  undo.defer(() => removeIfEmpty(paths.runDir));
  undo.use(await acquireStateLock(layout.hostAgentLockDir));
  const hostId = await readOrMakeHostId(layout);

  const records = new SandboxRecordStore(layout, sandboxRecord);
  const inUse = await vmmsInUse(records);
  const driver = config.driver ?? (await makeDriver(config, layout.cacheDir, new Set(inUse.keys())));
  undo.defer(() => driver.close());
  requireOwnVms(driver.name, inUse);
  const telemetry = new Telemetry(layout, logger);
  const networks = config.networks ?? (await makeNetworks(config, telemetry));
  undo.defer(() => networks.close());
  const traffic = new LateTraffic();
  const diskNotes = new DiskNotes();
  const manager = await createSandboxManager(
    {
      driver,
      networks,
      layout,
      records,
      templates: new TemplateStore(layout),
      currentImages: () => readCurrentImages(layout),
      disks: rootDisksFor(driver, layout.layerWorkDir),
      imageGuard: new ImageGuard(),
      diskGuard: new DiskGuard(diskNotes),
      diskNotes,
      guestClient: createGuestClient,
      traffic,
      telemetry,
      useSnapshots: config.useSnapshots ?? true,
      snapshotWaitMs: config.snapshotWaitMs ?? SNAPSHOT_WAIT_MS,
      limits: resolveHostLimits(config.limits),
      logger,
    },
    paths,
    config.warm,
    { ...DEFAULT_SCRUB, ...config.scrub },
  );
  undo.defer(() => manager.stop({ destroySandboxes: false }));

  if (config.metrics !== undefined) observeHost({ manager, driver, stateDir: paths.stateDir }, config.metrics);

  const proxy = createHostProxy({ sandboxes: manager, logger });
  undo.defer(() => proxy.close());
  traffic.proxy = proxy;
  undo.defer(
    manager.onChange(({ sandboxId, state }) => {
      if (state === 'paused' || state === 'stopping' || state === 'gone') proxy.dropSandbox(sandboxId);
    }),
  );
  const proxySocketPath = join(paths.runDir, 'host-proxy.sock');
  const proxyServer = await listenForProxyTraffic(proxy, { socketPath: proxySocketPath }, logger);
  undo.defer(() => proxyServer.close());
  undo.defer(probeInBackground(driver, logger));
  if (config.prepareAtStart ?? true) prepareInBackground(manager, logger);

  const describe = await prepareDescription({ driver, manager, paths, hostId });
  const everything = undo.move();
  let stopped: Promise<void> | undefined;
  return {
    hostId,
    routes: hostRoutes({ manager, describe }),
    manager,
    proxy,
    proxySocketPath,
    describe,
    stop(options = { destroySandboxes: false }) {
      stopped ??= manager.stop(options).finally(() => everything.disposeAsync());
      return stopped;
    },
  };
}

/** The manager drains the proxy before a pause, and the proxy asks the manager where to go: one of them is there first. */
class LateTraffic implements SandboxTraffic {
  proxy: HostProxy | undefined;

  async drain(sandboxId: string): Promise<void> {
    await this.proxy?.drain(sandboxId);
  }

  admit(sandboxId: string): void {
    this.proxy?.admit(sandboxId);
  }
}

/** Creates wait for a snapshot that is being made. One that cannot be made is told, and sandboxes boot. */
function prepareInBackground(manager: SandboxManager, logger: Logger): void {
  manager.prepareTemplates().catch((error: unknown) => {
    if (error instanceof NestboxError && (error.code === 'not_set_up' || error.code === 'host_unavailable')) return;
    logger.warn({ err: error }, 'templates could not be prepared');
  });
}

/** Sandboxes that go on have their folders in it. */
async function removeIfEmpty(folder: string): Promise<void> {
  await rmdir(folder).catch((error: unknown) => {
    if (!(error instanceof Error && 'code' in error && (error.code === 'ENOTEMPTY' || error.code === 'ENOENT')))
      throw error;
  });
}

function makeDriver(
  { paths, logger, vmm, accelerator }: HostAgentConfig,
  cacheDir: string,
  inUse: ReadonlySet<VmmName>,
): Promise<VmDriver> {
  const { runDir: runRoot, instance } = paths;
  const options = { runRoot, instance, cacheDir, logger, ...(accelerator === undefined ? {} : { accelerator }) };
  return selectDriver(vmm ?? 'auto', options, inUse);
}

async function makeNetworks(
  { paths, logger, networkPoolSize, allowPrivate }: HostAgentConfig,
  telemetry: Telemetry,
): Promise<SandboxNetworks> {
  const poolSize = networkPoolSize ?? DEFAULT_NETWORK_POOL_SIZE;
  const openedRanges = parseOpenedRanges(allowPrivate ?? []);
  const networks = new GuardedNetworks(
    await createSandboxNetworks({ instance: paths.instance, poolSize, logger, openedRanges }),
    logger,
  );
  networks.onDenied((denial) => void telemetry.note(denial.sandboxId, 'warn', ...describeDenial(denial)));
  return networks;
}

/** Asks the driver now what it can, so that the first create need not wait for the probe. Returns what ends it. */
function probeInBackground(driver: VmDriver, logger: Logger): () => Promise<void> {
  const ending = new AbortController();
  const probe = driver.describe(ending.signal).then(
    ({ vmm, version, accelerator, reason }) => logger.info({ vmm, version, accelerator, reason }, 'what runs VMs here'),
    (error: unknown) => {
      if (!ending.signal.aborted) logger.warn({ err: error }, 'no VM can be run here yet');
    },
  );
  return () => {
    ending.abort();
    return probe;
  };
}
