import { mkdir, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { attempt } from '../attempt.ts';
import type { Freezer } from '../cgroups/freezer.ts';
import type { AgentContext } from '../context.ts';
import { nameMachine } from '../init/host-identity.ts';
import { setHost } from '../init/hosts-file.ts';
import type { PortForwarding } from '../ports/port-forwarding.ts';
import { WallClock } from '../system/clock.ts';
import { syncDisks } from '../system/power.ts';
import { TrustStore } from './ca-bundle.ts';
import type { Connections } from './connections.ts';
import type { InitRequest } from './init-request.ts';
import { RootFreeze } from './root-freeze.ts';
import { Volumes } from './volumes.ts';

const MAX_BEHIND_NS = 50_000_000n;
const MAX_AHEAD_NS = 5_000_000_000n;

/** Whether a clock that shows `nowNs` must be set when the host says `hostNs` (envd-interface.md, section 5.4). */
export function mustSetClock(nowNs: bigint, hostNs: bigint): boolean {
  return hostNs - nowNs > MAX_BEHIND_NS || nowNs - hostNs > MAX_AHEAD_NS;
}

interface Parts {
  readonly context: AgentContext;
  readonly connections: Connections;
  readonly forwarding: PortForwarding | undefined;
  readonly freezer: Freezer | undefined;
}

/** What happens to the agent when its machine is booted, paused and restored. */
export class Lifecycle {
  readonly rootFreeze = new RootFreeze();
  readonly #parts: Parts;
  readonly #clock = new WallClock();
  readonly #trustStore = new TrustStore();
  readonly #volumes = new Volumes();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /**
   * Applies an authorised /init that came over `connection`. Throws RestError for a CA bundle or a volume that cannot be
   * had.
   */
  async init(request: InitRequest, connection: Socket): Promise<void> {
    const { state, isInit } = this.#parts.context;
    await this.#thaw();
    if (request.timestampNs !== undefined) {
      if (request.timestampNs <= state.lastInitAtNs) return;
      state.lastInitAtNs = request.timestampNs;
      if (isInit) this.#setClock(request.timestampNs);
    }
    const restored = request.lifecycleId !== undefined && request.lifecycleId !== state.lifecycleId;
    state.accessToken = request.accessToken;
    if (request.envVars !== undefined) state.replaceUserEnv(request.envVars);
    if (request.defaultUser !== undefined) state.defaultUser = request.defaultUser;
    if (request.defaultWorkdir !== undefined) state.defaultWorkdir = request.defaultWorkdir;
    await this.#tellIdentity(request);
    if (restored) {
      state.lifecycleId = request.lifecycleId;
      this.#parts.connections.closeStale(connection);
      this.#parts.forwarding?.start();
    }
    if (request.caBundle !== undefined) await this.#trustStore.add(request.caBundle);
    if (request.volumeMounts.length > 0) await this.#volumes.mount(request.volumeMounts, restored);
  }

  /** Gets ready to be copied: nothing of ours is in the middle of anything, and the disks hold what was written. */
  async prepareSnapshot(): Promise<void> {
    this.#parts.connections.markStale();
    await this.#parts.forwarding?.stop();
    if (this.#parts.context.isInit) await syncDisks();
  }

  /** Writes the files by which programs learn that they run in a sandbox. */
  async announce(name: string, value: string): Promise<void> {
    const { runtimeDir } = this.#parts.context;
    try {
      await mkdir(runtimeDir, { recursive: true });
      await writeFile(join(runtimeDir, `.${name}`), value);
    } catch (error) {
      console.error(`nestbox: ${name} could not be written to ${runtimeDir}:`, error);
    }
  }

  async #tellIdentity({ sandboxId, templateId, proxyDomain, hyperloopIp }: InitRequest): Promise<void> {
    const { state, isInit } = this.#parts.context;
    if (sandboxId !== undefined) {
      for (const prefix of ['E2B', 'NESTBOX', 'WRENN']) state.setInternalEnv(`${prefix}_SANDBOX_ID`, sandboxId);
      await this.announce('E2B_SANDBOX_ID', sandboxId);
      if (isInit) attempt('naming the machine', () => nameMachine(sandboxId));
    }
    if (templateId !== undefined) {
      for (const prefix of ['E2B', 'NESTBOX', 'WRENN']) state.setInternalEnv(`${prefix}_TEMPLATE_ID`, templateId);
      await this.announce('E2B_TEMPLATE_ID', templateId);
    }
    if (proxyDomain !== undefined) state.setInternalEnv('NESTBOX_PROXY_DOMAIN', proxyDomain);
    if (hyperloopIp !== undefined) {
      state.setInternalEnv('E2B_EVENTS_ADDRESS', `http://${hyperloopIp}`);
      if (isInit) attempt('writing /etc/hosts', () => setHost('events', hyperloopIp, 'events.e2b.local'));
    }
  }

  #setClock(hostNs: bigint): void {
    attempt('setting the clock', () => {
      if (mustSetClock(this.#clock.nowNs(), hostNs)) this.#clock.set(hostNs);
    });
  }

  async #thaw(): Promise<void> {
    try {
      await this.rootFreeze.thaw();
      await this.#parts.freezer?.thaw();
    } catch (error) {
      console.error('nestbox: the sandbox could not be thawed:', error);
    }
  }
}
