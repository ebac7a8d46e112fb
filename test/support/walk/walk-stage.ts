import type { Answer } from '../answer-of.ts';

/** How many places of its disk a walk writes to. */
export const DISK_PLACES = 3;

/** What a sandbox holds: a word in its memory, lost with it, and a number from 0 to 255 at each place of its disk. */
export interface Contents {
  readonly memory: string;
  readonly disk: readonly number[];
}

export const NOTHING_YET: Contents = { memory: '', disk: new Array<number>(DISK_PLACES).fill(0) };

/** What a walk walks on: a server, in a process of its own, and what is in its sandboxes. */
export interface WalkStage {
  call(method: string, path: string, body?: unknown): Promise<Answer>;
  /** Of a running sandbox. */
  read(sandboxId: string): Promise<Contents>;
  remember(sandboxId: string, word: string): Promise<void>;
  write(sandboxId: string, place: number, value: number): Promise<void>;
  /** Ends the server, whose sandboxes stay. */
  end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void>;
  /** Starts the next one. */
  start(): Promise<void>;
  /** What the disk says of each sandbox's state, by its id. */
  recordedStates(): Promise<ReadonlyMap<string, string>>;
}
