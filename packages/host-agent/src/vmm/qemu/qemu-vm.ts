import { existsSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { VmHandle, VmStatus } from '../driver.ts';
import { vmmUnreachable } from '../errors.ts';
import type { ProcessVm } from '../process/process-vmm.ts';
import { VmProcess, type VmProcessParts, vmDied } from '../process/vm-process.ts';
import { QmpClient, QmpUnavailableError } from './qmp-client.ts';
import { qemuRunFiles } from './run-files.ts';

/** Connecting takes milliseconds; a host with too much to do gets time. */
const CONNECT_DEADLINE_MS = 10_000;
const SOCKET_POLL_MS = 2;
const STATUS_DEADLINE_MS = 5000;
/** `stop` waits until the requests in flight have reached the host's disk. */
const RUN_STATE_DEADLINE_MS = 30_000;
/** How often a VM is looked at whose control socket cannot be had; normally the socket's closing tells at once. */
const FALLBACK_POLL_MS = 500;
/** Between QEMU's closing its socket and its end lie a few milliseconds. */
const DYING_MS = 2000;
const LAST_EVENT_MS = 200;

const queryStatus = z.object({ status: z.string() });
const queryBlock = z.array(z.object({ 'io-status': z.string().optional() }));

/** What the driver holds of one VM: its control connection, and what was heard from it. */
export class QemuVm implements ProcessVm {
  readonly process: VmProcess;
  #qmp: Promise<QmpClient> | undefined;
  #shutdownCause: string | undefined;

  constructor(parts: Omit<VmProcessParts, 'logPath'>) {
    this.process = new VmProcess({ ...parts, logPath: qemuRunFiles(parts.handle.runDir).log });
  }

  get handle(): VmHandle {
    return this.process.handle;
  }

  get isOwn(): boolean {
    return this.process.isOwn;
  }

  /** Who QEMU runs as. Throws what the system says when it is gone. */
  get userId(): number {
    return statSync(`/proc/${this.handle.process.pid}`).uid;
  }

  get isAlive(): boolean {
    return this.process.isAlive;
  }

  /** The control connection, shared by all who ask; made when there is none. Throws QmpUnavailableError. */
  connect(): Promise<QmpClient> {
    if (this.#qmp !== undefined) return this.#qmp;
    const opening = this.#open();
    this.#qmp = opening;
    const forget = () => {
      if (this.#qmp === opening) this.#qmp = undefined;
    };
    opening.then((client) => client.closed.then(forget), forget);
    return opening;
  }

  /** `connect` to a QEMU that has just been started: its socket appears in a moment. Throws as soon as it is gone. */
  async connectSoon(signal?: AbortSignal): Promise<void> {
    const endsAt = performance.now() + CONNECT_DEADLINE_MS;
    const { qmpSocket } = qemuRunFiles(this.handle.runDir);
    for (;;) {
      signal?.throwIfAborted();
      if (existsSync(qmpSocket)) {
        try {
          await this.connect();
          return;
        } catch (error) {
          if (performance.now() > endsAt) throw error;
        }
      }
      if (!this.isAlive) throw new QmpUnavailableError('QEMU ended before it could be asked anything.');
      if (performance.now() > endsAt) throw new QmpUnavailableError('QEMU opened no control socket in time.');
      await sleep(SOCKET_POLL_MS);
    }
  }

  async #open(): Promise<QmpClient> {
    const { qmpSocket } = qemuRunFiles(this.handle.runDir);
    const client = await QmpClient.connect(qmpSocket, { deadlineMs: CONNECT_DEADLINE_MS });
    client.onEvent(({ name, data }) => {
      if (name === 'SHUTDOWN' && typeof data.reason === 'string') this.#shutdownCause = data.reason;
    });
    return client;
  }

  /** What QEMU says. Throws QmpUnavailableError or QmpCommandError. */
  async queryStatus(): Promise<VmStatus> {
    const qmp = await this.connect();
    const ask = async (command: string) => qmp.execute(command, undefined, { deadlineMs: STATUS_DEADLINE_MS });
    const { status } = queryStatus.parse(await ask('query-status'));
    switch (status) {
      case 'running':
        return { state: 'running' };
      case 'io-error': {
        const full = queryBlock.parse(await ask('query-block')).some((disk) => disk['io-status'] === 'nospace');
        const reason = full
          ? "The host's disk is full, so the guest's writes wait. Free some space, and it goes on by itself."
          : "A write to its disk failed on the host, and waits. Mend the host's disk, and it goes on by itself.";
        return { state: 'stalled', reason };
      }
      case 'internal-error':
      case 'guest-panicked':
      case 'shutdown':
      case 'watchdog':
        return { state: 'stalled', reason: `The VM manager stopped the guest (${status}).` };
      default:
        // paused, and the stations of a migration: vCPUs stand still because somebody asked for it.
        return { state: 'paused' };
    }
  }

  async setRunning(running: boolean, signal?: AbortSignal): Promise<void> {
    const qmp = await this.connect();
    await qmp.execute(running ? 'cont' : 'stop', undefined, { deadlineMs: RUN_STATE_DEADLINE_MS }, signal);
  }

  /** One command. Throws QmpUnavailableError or QmpCommandError. */
  async execute(
    command: string,
    args: Record<string, unknown>,
    deadlineMs: number,
    signal?: AbortSignal,
  ): Promise<unknown> {
    const qmp = await this.connect();
    return qmp.execute(command, args, { deadlineMs }, signal);
  }

  /** After a failed question: is the VM about to go? */
  isGoneSoon(): Promise<boolean> {
    return this.process.isGoneWithin(DYING_MS);
  }

  async waitUntilGone(signal: AbortSignal): Promise<string> {
    await this.process.untilGone(signal, async () => {
      await this.#controlLost(signal);
      await this.isGoneSoon();
    });
    await this.#hearLastEvents();
    return this.explainEnd();
  }

  /** Resolves when the control connection ends, which mostly means that QEMU does; without one, after a while. */
  async #controlLost(signal: AbortSignal): Promise<void> {
    try {
      const qmp = await this.connect();
      await qmp.closed;
    } catch {
      await sleep(FALLBACK_POLL_MS, undefined, { ref: false, signal }).catch(() => undefined);
    }
  }

  /** The end of the process may be heard of before the last event that QEMU wrote into its socket. */
  async #hearLastEvents(): Promise<void> {
    const qmp = await this.#qmp?.catch(() => undefined);
    if (qmp !== undefined) await Promise.race([qmp.closed, sleep(LAST_EVENT_MS)]);
  }

  explainEnd(): Promise<string> {
    return this.process.explainEnd(this.#shutdownCause);
  }

  async explainFailure(error: unknown): Promise<unknown> {
    if (!(error instanceof QmpUnavailableError)) return error;
    if (!(await this.isGoneSoon())) return vmmUnreachable(error);
    return vmDied(await this.explainEnd(), undefined, error);
  }

  async close(): Promise<void> {
    const qmp = await this.#qmp?.catch(() => undefined);
    qmp?.close();
  }
}
