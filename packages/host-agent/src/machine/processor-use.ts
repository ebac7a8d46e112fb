import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

/** Time of all processors since the machine began, in ticks. */
export interface ProcessorTime {
  readonly busy: number;
  readonly total: number;
}

/**
 * Reads the first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user. Source:
 * proc_stat(5). Undefined when it is not there.
 */
export function parseProcessorTime(stat: string): ProcessorTime | undefined {
  const [, words] = /^cpu\s+(.+)$/m.exec(stat) ?? [];
  const ticks = words?.split(/\s+/).slice(0, 8).map(Number) ?? [];
  const [, , , idle, ioWait = 0] = ticks;
  if (idle === undefined) return undefined;
  const total = ticks.reduce((sum, each) => sum + each, 0);
  return { busy: total - idle - ioWait, total };
}

/** From 0 to 100. Undefined when no time has passed between the two. */
export function percentBusy(before: ProcessorTime, now: ProcessorTime): number | undefined {
  const total = now.total - before.total;
  if (total <= 0) return undefined;
  // The kernel lets the idle time go back a little at times.
  return Math.round(Math.min(1, Math.max(0, (now.busy - before.busy) / total)) * 100);
}

/** A shorter time has too few ticks. */
const SHORTEST_MS = 1000;
/** What was longer ago tells nothing of now. */
const LONGEST_MS = 60_000;
const WAIT_MS = 250;

interface Measured {
  readonly time: ProcessorTime | undefined;
  readonly atMs: number;
}

/** How busy all processors of the machine are, measured between one question and the next. */
export class ProcessorUse {
  readonly #read: () => Promise<ProcessorTime | undefined>;
  #since: Measured;
  #percent: number | undefined;

  private constructor(read: () => Promise<ProcessorTime | undefined>, since: Measured) {
    this.#read = read;
    this.#since = since;
  }

  /** The first answer tells of the time from now on. */
  static async begin(read = readProcessorTime): Promise<ProcessorUse> {
    return new ProcessorUse(read, await measure(read));
  }

  /** From 0 to 100, over a second to a minute; 0 where the kernel does not tell. */
  async percent(): Promise<number> {
    const ageMs = performance.now() - this.#since.atMs;
    if (this.#percent !== undefined && ageMs < SHORTEST_MS) return this.#percent;
    let before = this.#since;
    if (ageMs > LONGEST_MS) {
      before = await measure(this.#read);
      await delay(WAIT_MS);
    }
    const now = await measure(this.#read);
    if (before.time !== undefined && now.time !== undefined)
      this.#percent = percentBusy(before.time, now.time) ?? this.#percent;
    this.#since = now;
    return this.#percent ?? 0;
  }
}

async function measure(read: () => Promise<ProcessorTime | undefined>): Promise<Measured> {
  return { time: await read(), atMs: performance.now() };
}

async function readProcessorTime(): Promise<ProcessorTime | undefined> {
  return parseProcessorTime(await readFile('/proc/stat', 'utf8').catch(() => ''));
}
