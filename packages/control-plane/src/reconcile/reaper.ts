import type { Logger } from '@nestbox/kit';
import type { BackgroundTasks } from '../background-tasks.ts';
import type { Clock } from '../clock.ts';

/**
 * Longest sleep. Timers run on the monotonic clock and ends are wall-clock times, so a jump of the wall clock (a
 * suspended machine, a corrected clock) is noticed this late at most.
 */
const MAX_SLEEP_MS = 60_000;
/** After the database failed. */
const ERROR_SLEEP_MS = 5_000;

/** What the reaper asks of the rest; all of it survives a restart, since ends are in the database. */
export interface ReaperActions {
  /** Wall-clock time of the next end; undefined when nothing runs. */
  nextDueAtMs(): Promise<number | undefined>;
  /** Takes what is due by now, so that it is not due any more. */
  takeDue(nowMs: number): Promise<readonly DueSandbox[]>;
  end(due: DueSandbox): Promise<unknown>;
  pause(due: DueSandbox): Promise<unknown>;
}

export interface DueSandbox {
  readonly sandboxId: string;
  readonly hostId: string;
  /** Its time pauses it instead of ending it. */
  readonly isPaused: boolean;
}

/** Ends or pauses sandboxes at their time: sleeps until the nearest end and is woken when an earlier one is set. */
export class Reaper {
  readonly #actions: ReaperActions;
  readonly #clock: Clock;
  readonly #tasks: BackgroundTasks;
  readonly #logger: Logger;
  #sleep = new AbortController();

  constructor(actions: ReaperActions, clock: Clock, tasks: BackgroundTasks, logger: Logger) {
    this.#actions = actions;
    this.#clock = clock;
    this.#tasks = tasks;
    this.#logger = logger;
  }

  /** To be called when an end was set or moved earlier. */
  wake(): void {
    this.#sleep.abort();
  }

  /** Runs until the signal is aborted. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      // Renewed before looking: a wake-up during the look then shortens the sleep behind it.
      this.#sleep = new AbortController();
      const sleepMs = await this.#endDue();
      await this.#clock.sleep(sleepMs, AbortSignal.any([signal, this.#sleep.signal]));
    }
  }

  /** Returns how long nothing is due. */
  async #endDue(): Promise<number> {
    try {
      for (const due of await this.#actions.takeDue(this.#clock.now())) {
        const { sandboxId, isPaused } = due;
        if (isPaused) this.#tasks.start('pausing a sandbox at its time', () => this.#actions.pause(due), { sandboxId });
        else this.#tasks.start('ending a sandbox at its time', () => this.#actions.end(due), { sandboxId });
      }
      const dueAtMs = await this.#actions.nextDueAtMs();
      return dueAtMs === undefined ? MAX_SLEEP_MS : clamp(dueAtMs - this.#clock.now(), 0, MAX_SLEEP_MS);
    } catch (error) {
      this.#logger.error({ err: error }, 'Looking for sandboxes at their end failed');
      return ERROR_SLEEP_MS;
    }
  }
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(Math.max(value, min), max);
}
