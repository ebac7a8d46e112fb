import { closeSync } from 'node:fs';
import type { EventQueue } from '../rpc/event-queue.ts';
import type { PseudoTerminals, TerminalSize } from '../system/pseudo-terminal.ts';
import type { ExitStatus } from '../system/wait.ts';
import { type EndEvent, endEvent } from './exit-status.ts';
import { endMessage, type OutputStream, type ProcessMessage, startMessage } from './process-event.ts';
import type { ProcessInput } from './process-input.ts';
import type { ProcessOutput } from './process-output.ts';

/** What the request asked for, as List shows it. */
export interface ProcessDescription {
  readonly cmd: string;
  readonly args: readonly string[];
  readonly envs: Readonly<Record<string, string>>;
  readonly cwd: string | undefined;
  readonly tag: string | undefined;
}

/** A pseudo-terminal as the agent holds it. */
export interface Terminal {
  readonly masterFd: number;
  /**
   * Open until the process has ended: a terminal whose other side nobody holds has no more to read and hangs up. Programs close theirs
   * before they exit, and may open it anew.
   */
  readonly slaveFd: number;
  readonly terminals: PseudoTerminals;
}

interface Parts {
  readonly pid: number;
  readonly description: ProcessDescription;
  readonly output: ProcessOutput;
  readonly input: ProcessInput | undefined;
  readonly terminal: Terminal | undefined;
}

const MAX_TIMER_MS = 2_147_483_647;

/** A process that was started by request: running, then ended and passing on its last output, then over. */
export class GuestProcess {
  readonly pid: number;
  readonly description: ProcessDescription;
  readonly input: ProcessInput | undefined;
  readonly #output: ProcessOutput;
  readonly #terminal: Terminal | undefined;
  readonly #queues = new Set<EventQueue<ProcessMessage>>();
  #running: boolean = true;
  #deadline: NodeJS.Timeout | undefined;

  constructor(parts: Parts) {
    this.pid = parts.pid;
    this.description = parts.description;
    this.input = parts.input;
    this.#output = parts.output;
    this.#terminal = parts.terminal;
  }

  /** False from the moment the process was collected; its pid may belong to another one from then on. */
  get isRunning(): boolean {
    return this.#running;
  }

  get hasTerminal(): boolean {
    return this.#terminal !== undefined;
  }

  /** Gives `queue` a start event now, what is written from now on, and the end. `signal` detaches it again. */
  attach(queue: EventQueue<ProcessMessage>, signal: AbortSignal): void {
    queue.push(startMessage(this.pid));
    this.#queues.add(queue);
    this.#output.subscribe(queue);
    queue.whenDrained(() => this.#output.flow());
    // Not left to the stream's reader: one that is stuck in a write would stop the process for ever.
    signal.addEventListener('abort', () => this.#detach(queue), { once: true });
  }

  /** Calls back with the size of each piece of output. */
  onOutput(listener: (stream: OutputStream, bytes: number) => void): void {
    this.#output.onChunk(listener);
  }

  /** Begins to read the output; call it when the first subscriber is there. */
  flow(): void {
    this.#output.flow();
  }

  /** Sends SIGKILL after `delayMs`, whoever is attached then. */
  killAfter(delayMs: number): void {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.kill('SIGKILL'), Math.min(Math.max(delayMs, 0), MAX_TIMER_MS));
  }

  /** Signals this one process, not its group. Throws Node's error of kill(2). */
  kill(signal: 'SIGKILL' | 'SIGTERM'): void {
    // Until it is collected, the pid cannot be given to anybody else.
    if (this.#running) process.kill(this.pid, signal);
  }

  /** Throws when the process has no terminal or its size cannot be set. */
  resize(size: TerminalSize): void {
    if (this.#terminal === undefined || !this.#running) throw new Error('the process has no terminal');
    this.#terminal.terminals.resize(this.#terminal.masterFd, size);
  }

  /** Call when the process was collected; resolves when its output was passed on and everyone was told the end. */
  async exited(status: ExitStatus): Promise<EndEvent> {
    this.#running = false;
    clearTimeout(this.#deadline);
    const end = endEvent(status);
    if (this.#terminal !== undefined) closeSync(this.#terminal.slaveFd);
    await this.#output.finish(status.kind === 'exited');
    for (const queue of this.#queues) {
      queue.push(endMessage(end));
      queue.end();
    }
    this.#queues.clear();
    this.input?.release();
    this.#output.release(status.kind === 'exited');
    return end;
  }

  #detach(queue: EventQueue<ProcessMessage>): void {
    this.#queues.delete(queue);
    this.#output.unsubscribe(queue);
  }
}
