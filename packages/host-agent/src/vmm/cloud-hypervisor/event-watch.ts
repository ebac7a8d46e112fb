import { statSync } from 'node:fs';
import { readFileTail } from '../file-tail.ts';

/** The words of explainExit for what ended a guest. */
export type GuestEnd = 'guest-reset' | 'guest-panic';

const POLL_MS = 100;
const TAIL_BYTES = 64 * 1024;
const ENDS: readonly (readonly [RegExp, GuestEnd])[] = [
  [/"source":\s*"guest",\s*"event":\s*"panic"/, 'guest-panic'],
  [/"source":\s*"vm",\s*"event":\s*"rebooting"/, 'guest-reset'],
];

/**
 * Looks for the events by which a guest ends as we see it: Cloud Hypervisor starts one that restarts or panics again by itself. The
 * file is written by Cloud Hypervisor: nothing but these words is taken from it.
 */
export class EventWatch {
  readonly #path: string;
  readonly #timer: NodeJS.Timeout;
  #seenBytes = 0;
  #end: GuestEnd | undefined;

  constructor(path: string, onEnd: () => Promise<void>) {
    this.#path = path;
    this.#timer = setInterval(() => {
      void this.look().then(async (end) => {
        if (end === undefined) return;
        this.close();
        await onEnd();
      });
    }, POLL_MS);
    this.#timer.unref();
  }

  /** How the guest ended, as far as it is told. Never throws. */
  async look(): Promise<GuestEnd | undefined> {
    const size = statSync(this.#path, { throwIfNoEntry: false })?.size ?? 0;
    if (this.#end === undefined && size !== this.#seenBytes) {
      this.#seenBytes = size;
      const text = await readFileTail(this.#path, TAIL_BYTES).catch(() => '');
      this.#end = ENDS.find(([words]) => words.test(text))?.[1];
    }
    return this.#end;
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
