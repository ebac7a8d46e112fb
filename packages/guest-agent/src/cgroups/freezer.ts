import { writeFileSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { attempt } from '../attempt.ts';

/** `legacy`: the groups of commands; `hierarchy`: every group but those on the allow-list. */
export type FreezeMode = 'legacy' | 'hierarchy';

/** envd's FreezeResult: counts of groups, and times. */
export interface FreezeResult {
  readonly mode: FreezeMode;
  readonly visited: number;
  readonly allowlisted: number;
  readonly truncated: boolean;
  readonly preFrozen: number;
  readonly requested: number;
  readonly frozen: number;
  readonly notFrozen: number;
  readonly failed: number;
  readonly unobservable: number;
  readonly sweepMs: number;
  readonly waitMs: number;
}

export interface FreezeOptions {
  readonly mode: FreezeMode;
  /** How long to wait for the groups to stand still. */
  readonly maxWaitMs: number;
  readonly maxCgroups: number;
}

const COMMAND_GROUPS = ['user', 'ptys'];
const ALLOWLIST: ReadonlySet<string> = new Set(['socats']);
const POLL_MS = 2;
/** A host that died between freeze and unfreeze must not leave the guest standing for ever. */
const WATCHDOG_MS = 10 * 60_000;

/** Stops and continues the processes of control groups (cgroup-v2, cgroup.freeze). */
export class Freezer {
  readonly #root: string;
  readonly #frozen = new Set<string>();
  #watchdog: NodeJS.Timeout | undefined;

  constructor(root: string) {
    this.#root = root;
  }

  async freeze({ mode, maxWaitMs, maxCgroups }: FreezeOptions): Promise<FreezeResult> {
    const begin = performance.now();
    const found = mode === 'legacy' ? COMMAND_GROUPS : await this.#groups();
    const visited = found.slice(0, maxCgroups);
    const wanted = visited.filter((group) => !ALLOWLIST.has(group));
    const waiting: string[] = [];
    let preFrozen = 0;
    let failed = 0;
    for (const group of wanted) {
      if (await this.#isFrozen(group)) preFrozen += 1;
      try {
        await writeFile(this.#file(group, 'cgroup.freeze'), '1');
        this.#frozen.add(group);
        waiting.push(group);
      } catch {
        failed += 1;
      }
    }
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      console.error('nestbox: nobody has unfrozen the processes; they go on now');
      attempt('unfreezing the processes', () => this.thaw());
    }, WATCHDOG_MS).unref();

    const swept = performance.now();
    let states = await this.#states(waiting);
    while (states.includes(false) && performance.now() - swept < maxWaitMs) {
      await delay(POLL_MS);
      states = await this.#states(waiting);
    }
    return {
      mode,
      visited: visited.length,
      allowlisted: visited.length - wanted.length,
      truncated: found.length > visited.length,
      preFrozen,
      requested: wanted.length,
      frozen: states.filter((state) => state === true).length,
      notFrozen: states.filter((state) => state === false).length,
      failed,
      unobservable: states.filter((state) => state === undefined).length,
      sweepMs: Math.round(swept - begin),
      waitMs: Math.round(performance.now() - swept),
    };
  }

  /**
   * Lets go on what was frozen, and the groups of commands in any case. Throws the first error when some of them cannot.
   * Synchronous: it is part of each /init, and two short writes take less than handing them to another thread does.
   */
  thaw(): void {
    clearTimeout(this.#watchdog);
    const errors: unknown[] = [];
    for (const group of new Set([...COMMAND_GROUPS, ...this.#frozen])) {
      try {
        writeFileSync(this.#file(group, 'cgroup.freeze'), '0');
      } catch (error) {
        errors.push(error);
      }
    }
    this.#frozen.clear();
    if (errors.length > 0) throw errors[0];
  }

  /** The top groups: freezing one freezes everything below it. */
  async #groups(): Promise<string[]> {
    const entries = await readdir(this.#root, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  }

  #states(groups: readonly string[]): Promise<(boolean | undefined)[]> {
    return Promise.all(groups.map((group) => this.#isFrozen(group)));
  }

  /** Undefined: it cannot be seen. */
  async #isFrozen(group: string): Promise<boolean | undefined> {
    try {
      return /^frozen 1$/m.test(await readFile(this.#file(group, 'cgroup.events'), 'utf8'));
    } catch {
      return undefined;
    }
  }

  #file(group: string, file: string): string {
    return join(this.#root, group, file);
  }
}
