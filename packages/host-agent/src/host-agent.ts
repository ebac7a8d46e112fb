import type { ConnectRouter } from '@connectrpc/connect';
import type { Logger, NestboxPaths } from '@nestbox/kit';
import type { SandboxNetworks } from './network/network.ts';
import type { SandboxManager, StopOptions } from './sandbox/sandbox.ts';
import type { VmDriver, VmmDescription } from './vmm/driver.ts';

export interface HostLimits {
  /** Sandboxes at once. Default 1,000. */
  readonly maxSandboxes: number;
  /** Sum of the guests' memory. Default nine tenths of the host's. */
  readonly maxMemoryMib: number;
  /** From the VMM's start to an initialised guest agent. Default 60,000. */
  readonly bootTimeoutMs: number;
  /** Boots at once; further creates wait. Default the number of cores, at least two. */
  readonly maxConcurrentBoots: number;
}

export interface HostAgentConfig {
  readonly paths: NestboxPaths;
  readonly logger: Logger;
  readonly limits?: Partial<HostLimits>;
  /** Where the proxy listens besides its unix socket, e.g. for an edge on another machine. Default: nowhere. */
  readonly proxyListen?: { readonly host: string; readonly port: number };
  /** Prepared network slots to keep. Default 2. */
  readonly networkPoolSize?: number;
  /** For tests: in place of the driver that was probed and of real namespaces. */
  readonly driver?: VmDriver;
  readonly networks?: SandboxNetworks;
}

export interface HostDescription extends VmmDescription {
  readonly hostId: string;
  readonly nestboxVersion: string;
  readonly cpuCount: number;
  readonly memoryBytes: number;
  readonly sandboxCount: number;
  readonly bootRetries: number;
}

/**
 * One machine's sandboxes. Takes the state folder's lock, finds again what runs, and listens for proxy traffic on
 * `proxySocketPath`.
 */
export interface HostAgent {
  /** Registers host.v1; for createRouterTransport (in memory) or connectNodeAdapter. */
  readonly routes: (router: ConnectRouter) => void;
  readonly manager: SandboxManager;
  /** `/proxy/<sandboxId>/<port>/…` over HTTP/1.1. */
  readonly proxySocketPath: string;
  describe(signal?: AbortSignal): Promise<HostDescription>;
  /** Everything but the VMs ends, and those too when asked to. Repeating it is fine. */
  stop(options?: StopOptions): Promise<void>;
}

/**
 * Throws NestboxError: state_dir_in_use (another host agent has this folder). A host that is not set up starts all the
 * same; its creates answer not_set_up.
 */
export declare function startHostAgent(config: HostAgentConfig): Promise<HostAgent>;
