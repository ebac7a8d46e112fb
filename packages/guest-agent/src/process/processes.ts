import type { EventQueue } from '../rpc/event-queue.ts';
import type { ChildReaper } from './child-reaper.ts';
import { endEvent } from './exit-status.ts';
import { CommandFailure, type Launcher, type LaunchRequest } from './launcher.ts';
import { dataMessage, endMessage, type ProcessMessage, startMessage } from './process-event.ts';
import type { ProcessLog } from './process-log.ts';
import { ProcessTable } from './process-table.ts';

/** Larger than any pid of the kernel (PID_MAX_LIMIT), for commands that never became a process. */
const FIRST_UNREAL_PID = 0x40_0001;
const LAST_UNREAL_PID = 0x7fff_ffff;

/** Starts processes and keeps account of them until their ends are forgotten. */
export class Processes {
  readonly table = new ProcessTable();
  readonly #launcher: Launcher;
  readonly #reaper: ChildReaper;
  readonly #log: ProcessLog | undefined;
  #nextUnrealPid = FIRST_UNREAL_PID;

  constructor(launcher: Launcher, reaper: ChildReaper, log?: ProcessLog) {
    this.#launcher = launcher;
    this.#reaper = reaper;
    this.#log = log;
  }

  /**
   * Starts a process with `queue` attached from its first byte. It is killed `timeoutMs` later, undefined: never.
   * A program that is not there is a process that ends with 126 or 127, as a shell would have it. Throws what
   * `Launcher.launch` throws otherwise.
   */
  start(
    request: LaunchRequest,
    timeoutMs: number | undefined,
    queue: EventQueue<ProcessMessage>,
    signal: AbortSignal,
  ): void {
    try {
      const process = this.#launcher.launch(request);
      this.table.add(process);
      const ended = this.#log?.begin(process, timeoutMs);
      this.#reaper.watch(process.pid, (status) => {
        process.exited(status).then(
          (end) => {
            ended?.(end);
            this.table.remove(process);
            this.table.retain({ pid: process.pid, tag: process.description.tag, end });
          },
          (error: unknown) => console.error(`nestbox: the end of process ${process.pid} was not told:`, error),
        );
      });
      process.attach(queue, signal);
      if (timeoutMs !== undefined) process.killAfter(timeoutMs);
      process.flow();
    } catch (error) {
      if (!(error instanceof CommandFailure)) throw error;
      this.#pretend(error, request, timeoutMs, queue);
    }
  }

  #pretend(
    failure: CommandFailure,
    request: LaunchRequest,
    timeoutMs: number | undefined,
    queue: EventQueue<ProcessMessage>,
  ): void {
    const pid = this.#nextUnrealPid;
    this.#nextUnrealPid = pid === LAST_UNREAL_PID ? FIRST_UNREAL_PID : pid + 1;
    const end = endEvent({ kind: 'exited', code: failure.exitCode });
    const terminal = request.terminalSize !== undefined;
    const text = Buffer.from(`exec: ${failure.message}${terminal ? '\r\n' : '\n'}`);
    queue.push(startMessage(pid));
    queue.push(dataMessage(terminal ? 'pty' : 'stderr', text));
    queue.push(endMessage(end));
    queue.end();
    this.table.retain({ pid, tag: request.description.tag, end });
    this.#log?.failed(pid, request.description, timeoutMs, end);
  }
}
