import type { Socket } from 'node:net';
import { GUEST_NETWORK } from '@nestbox/contract';
import { attempt } from '../attempt.ts';
import type { Freezer } from '../cgroups/freezer.ts';
import type { AgentContext } from '../context.ts';
import type { PortForwarding } from '../ports/port-forwarding.ts';
import type { Clock } from '../system/clock.ts';
import { syncDisks } from '../system/power.ts';
import { RandomPool } from '../system/random-pool.ts';
import type { SocketDiag } from '../system/socket-diag.ts';
import { TrustStore } from './ca-bundle.ts';
import { mustSetClock } from './clock-correction.ts';
import type { Connections } from './connections.ts';
import { SandboxIdentity } from './identity.ts';
import type { InitRequest } from './init-request.ts';
import { closeOutsideConnections } from './outside-connections.ts';
import { RootFreeze } from './root-freeze.ts';
import { Volumes } from './volumes.ts';

/** A machine that goes on after all, without a restore and its /init, forwards ports again after this. */
const FORWARD_AGAIN_MS = 30_000;

interface Parts {
  readonly context: AgentContext;
  readonly clock: Clock;
  readonly connections: Connections;
  readonly forwarding: PortForwarding | undefined;
  readonly freezer: Freezer | undefined;
  readonly socketDiag: SocketDiag;
}

/** Who sent an /init. */
export interface InitSender {
  readonly connection: Socket;
  /** Whether it is the host itself, and not somebody in the sandbox who knows the token. */
  readonly isHost: boolean;
}

/** An /init whose answer may go out. */
export interface TakenInit {
  /** What the clock is set to when it is carried out, in microseconds of Unix time. Undefined: it stays. */
  readonly clockUs: number | undefined;
  /** Carries it out. */
  readonly finish: () => void;
}

/** What happens to the agent when its machine is booted, paused and restored. */
export class Lifecycle {
  readonly rootFreeze = new RootFreeze();
  readonly identity: SandboxIdentity;
  readonly #parts: Parts;
  readonly #randomPool = new RandomPool();
  readonly #trustStore = new TrustStore();
  readonly #volumes = new Volumes();
  #forwardAgain: NodeJS.Timeout | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.identity = new SandboxIdentity(parts.context);
  }

  /**
   * Takes an authorised /init. Call `finish` right after the answer, in the same turn of the event loop: it carries it out
   * before any other request can be looked at, so the first command of the user finds all of it done.
   *
   * On an emulated processor each instruction after a restore is slow once, and the user waits for the answer, so nothing
   * is done before it that can be done in that turn, and nothing is handed to another thread. A new lifecycle id says that
   * the machine was just booted or restored. Throws RestError for a CA bundle or a volume that cannot be had.
   */
  async init(request: InitRequest, sender: InitSender): Promise<TakenInit> {
    const { state, isInit } = this.#parts.context;
    // First of all: who writes to a frozen file system waits for ever.
    if (this.rootFreeze.isFrozen) await this.#thawRoot();
    const isNewLife = request.lifecycleId !== undefined && request.lifecycleId !== state.lifecycleId;
    const { timestampUs } = request;
    let clockUs: number | undefined;
    if (timestampUs !== undefined) {
      // The clock of another host may be behind the one that the last /init before the snapshot came from.
      if (timestampUs <= state.lastInitAtUs && !isNewLife) return { clockUs, finish: () => this.#thawProcesses() };
      state.lastInitAtUs = timestampUs;
      // A restored clock shows the moment of the snapshot, however little that is off.
      if (isInit && (isNewLife || mustSetClock(this.#parts.clock.nowNs(), inNanoseconds(timestampUs))))
        clockUs = timestampUs;
    }
    state.accessToken = request.accessToken;
    if (request.envVars !== undefined) state.replaceUserEnv(request.envVars);
    if (request.defaultUser !== undefined) state.defaultUser = request.defaultUser;
    if (request.defaultWorkdir !== undefined) state.defaultWorkdir = request.defaultWorkdir;
    const writeIdentity = this.identity.tell(request);
    if (isNewLife) state.lifecycleId = request.lifecycleId;
    const finish = () => {
      if (clockUs !== undefined) this.#setClock(inNanoseconds(clockUs));
      if (isNewLife && isInit)
        attempt('reseeding the random pool', () => this.#randomPool.reseed(Buffer.from(request.entropy, 'base64')));
      writeIdentity();
      if (isNewLife) this.#beginNewLife(sender);
      // Last: what was frozen goes on in a machine where everything is right again.
      this.#thawProcesses();
    };
    if (request.caBundle === undefined && request.volumeMounts.length === 0) return { clockUs, finish };
    // These take longer than all else, and other requests may be looked at meanwhile; the connections of new mounts must
    // not be taken for old ones.
    finish();
    if (request.caBundle !== undefined) await this.#trustStore.add(request.caBundle);
    if (request.volumeMounts.length > 0) await this.#volumes.mount(request.volumeMounts, isNewLife);
    return { clockUs, finish: () => undefined };
  }

  /** Gets ready to be copied: nothing of ours is in the middle of anything, and the disks hold what was written. */
  async prepareSnapshot(): Promise<void> {
    const { connections, forwarding, context } = this.#parts;
    connections.markStale();
    forwarding?.stop();
    clearTimeout(this.#forwardAgain);
    this.#forwardAgain = setTimeout(() => forwarding?.start(), FORWARD_AGAIN_MS).unref();
    if (!context.isInit) return;
    await syncDisks();
  }

  /** Lets go of what was open before the restore, which has no other end any more. */
  #beginNewLife({ connection, isHost }: InitSender): void {
    const { connections, forwarding, context, socketDiag } = this.#parts;
    if (isHost) connections.closeAllBut(connection);
    else connections.closeStale(connection);
    context.activity.forget();
    context.compilers?.beginLife();
    const hostAddress = connection.remoteAddress;
    if (context.isInit && isHost && hostAddress !== undefined) {
      const ends = [GUEST_NETWORK.address, hostAddress.replace(/^::ffff:/, '')] as const;
      attempt('closing connections from before the restore', () => closeOutsideConnections(socketDiag, ...ends));
    }
    clearTimeout(this.#forwardAgain);
    forwarding?.start();
  }

  #setClock(hostNs: bigint): void {
    attempt('setting the clock', () => this.#parts.clock.set(hostNs));
  }

  async #thawRoot(): Promise<void> {
    try {
      await this.rootFreeze.thaw();
    } catch (error) {
      console.error('nestbox: the root file system could not be thawed:', error);
    }
  }

  #thawProcesses(): void {
    attempt('thawing the processes', () => this.#parts.freezer?.thaw());
  }
}

function inNanoseconds(microseconds: number): bigint {
  return BigInt(microseconds) * 1000n;
}
