import type { GuestConnection } from './guest-connection.ts';
import { GuestError, toGuestError } from './guest-error.ts';
import type { GuestProcessEvent } from './process-events.ts';
import { connectToProcess, type GuestCommand, killProcess, startProcess, type TerminalSize } from './processes.ts';

export interface TerminalOptions extends GuestCommand {
  readonly size: TerminalSize;
}

interface PendingInput {
  readonly data: Uint8Array;
  resolve(): void;
  reject(error: unknown): void;
}

/** Starts a program on a terminal of its own. Throws GuestError. */
export function startTerminal(
  guest: GuestConnection,
  options: TerminalOptions,
  signal?: AbortSignal,
): Promise<GuestTerminal> {
  return GuestTerminal.open(guest, startProcess(guest, options, { pty: { size: options.size } }, signal));
}

/** Attaches to a terminal that runs already. */
export function connectTerminal(guest: GuestConnection, pid: number, signal?: AbortSignal): Promise<GuestTerminal> {
  return GuestTerminal.open(guest, connectToProcess(guest, pid, signal));
}

/** A program on a terminal in the guest. */
export class GuestTerminal {
  readonly pid: number;
  /** `pty` output and the `end`. Leaving the loop detaches; the program goes on. */
  readonly events: AsyncGenerator<GuestProcessEvent, void, undefined>;
  readonly #guest: GuestConnection;
  /** Input that waits for the call under way; the next call takes all of it. */
  readonly #waiting: PendingInput[] = [];
  #sending: Promise<void> | undefined;

  static async open(
    guest: GuestConnection,
    events: AsyncGenerator<GuestProcessEvent, void, undefined>,
  ): Promise<GuestTerminal> {
    const first = await events.next();
    if (first.done === true || first.value.kind !== 'start') {
      await events.return();
      throw new GuestError('protocol', 'The guest did not begin the stream with the start of the process.');
    }
    return new GuestTerminal(guest, first.value.pid, events);
  }

  private constructor(guest: GuestConnection, pid: number, events: AsyncGenerator<GuestProcessEvent, void, undefined>) {
    this.#guest = guest;
    this.pid = pid;
    this.events = events;
  }

  /**
   * Answers when the guest has the bytes. Calls may overlap: bytes arrive in the order of the calls, none is dropped, and
   * a failure reaches every caller whose bytes it concerns.
   */
  sendInput(data: Uint8Array): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.push({ data, resolve, reject });
    this.#sending ??= this.#sendWaiting();
    return promise;
  }

  async resize(size: TerminalSize, signal?: AbortSignal): Promise<void> {
    try {
      await this.#guest.unaryProcess.update(
        { process: { selector: { case: 'pid', value: this.pid } }, pty: { size } },
        { headers: this.#guest.headers(), ...(signal === undefined ? {} : { signal }) },
      );
    } catch (error) {
      throw toGuestError(error, `Resizing terminal ${this.pid}`, signal);
    }
  }

  /** False when the program had ended already. */
  kill(signal?: AbortSignal): Promise<boolean> {
    return killProcess(this.#guest, this.pid, signal);
  }

  /** Detaches; the program goes on. */
  async close(): Promise<void> {
    await this.events.return();
  }

  async #sendWaiting(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0);
      try {
        await this.#send(Buffer.concat(batch.map(({ data }) => data)));
        for (const { resolve } of batch) resolve();
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#sending = undefined;
  }

  async #send(input: Uint8Array): Promise<void> {
    try {
      await this.#guest.unaryProcess.sendInput(
        { process: { selector: { case: 'pid', value: this.pid } }, input: { input: { case: 'pty', value: input } } },
        { headers: this.#guest.headers() },
      );
    } catch (error) {
      throw toGuestError(error, `Input for terminal ${this.pid}`);
    }
  }
}
