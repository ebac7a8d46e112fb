import { stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import { replaceFile } from '@nestbox/kit';
import { errnoOf } from '../storage/errno.ts';
import type { Template } from '../storage/template-store.ts';
import { backgroundPace } from './background-pace.ts';
import { snapshotFolder } from './create-plan.ts';
import type { HostState } from './host-state.ts';
import type { PausedVm } from './lifecycle.ts';
import type { LiveSandbox } from './live-sandbox.ts';
import { type BackgroundOptions, builtTemplateDisk } from './resting-disk.ts';
import { isTemplateThere } from './template-presence.ts';
import { newRound, type VerifyRound, verifyState } from './verify-state.ts';

export interface ScrubSettings {
  /** From one round to the next. 0: rounds only when somebody asks. */
  readonly intervalMs: number;
  /** From the start to the first round, where there has never been one. */
  readonly firstAfterMs: number;
  /** See disk-noter.ts. */
  readonly noteAfterMs: number;
}

export const DEFAULT_SCRUB: ScrubSettings = {
  intervalMs: 24 * 3_600_000,
  firstAfterMs: 10 * 60_000,
  noteAfterMs: 30_000,
};

/** What a round may take of the time. */
const SCRUB_PART = 0.1;
/** A clock may be set, and a timer has its limit. */
const LONGEST_SLEEP_MS = 3_600_000;

interface Round {
  readonly abort: AbortController;
  readonly done: Promise<void>;
  readonly isAsked: boolean;
}

/**
 * Reads from time to time whatever rests on this host (paused sandboxes, snapshots, templates), slowly and in the background, and
 * says what is not what was written.
 */
export class Scrubber {
  readonly #host: HostState;
  readonly #settings: ScrubSettings;
  readonly #closed = new AbortController();
  readonly #loop: Promise<void>;
  #round: Round | undefined;

  constructor(host: HostState, settings: ScrubSettings) {
    this.#host = host;
    this.#settings = settings;
    this.#loop = settings.intervalMs > 0 ? this.#scrubAgainAndAgain() : Promise.resolve();
  }

  get isVerifying(): boolean {
    return this.#round !== undefined;
  }

  /** When the last round came to its end, in milliseconds since the epoch; undefined: none has. */
  async verifiedAtMs(): Promise<number | undefined> {
    return stat(this.#host.context.layout.scrubTime).then(
      ({ mtimeMs }) => Math.floor(mtimeMs),
      () => undefined,
    );
  }

  /** Begins a round that takes all the time it can have, or joins one; in the place of a slow one. */
  verifyNow(): void {
    if (this.#closed.signal.aborted || this.#round?.isAsked) return;
    const before = this.#round;
    before?.abort.abort();
    this.#begin(1, before?.done);
  }

  async close(): Promise<void> {
    this.#closed.abort();
    this.#round?.abort.abort();
    await Promise.all([this.#loop, this.#round?.done]);
  }

  async #scrubAgainAndAgain(): Promise<void> {
    const { signal } = this.#closed;
    const { intervalMs, firstAfterMs } = this.#settings;
    const firstAtMs = Date.now() + firstAfterMs;
    while (!signal.aborted) {
      const verifiedAtMs = await this.verifiedAtMs();
      const left = (verifiedAtMs === undefined ? firstAtMs : verifiedAtMs + intervalMs) - Date.now();
      if (left <= 0) {
        if (this.#round === undefined) this.#begin(SCRUB_PART, undefined);
        await this.#round?.done;
      }
      // One that failed is not tried again at once.
      const sleepMs = left > 0 ? left : intervalMs;
      await delay(Math.min(sleepMs, LONGEST_SLEEP_MS), undefined, { signal, ref: false }).catch(() => {});
    }
  }

  #begin(part: number, after: Promise<void> | undefined): void {
    const abort = new AbortController();
    const done = (async () => {
      await after;
      try {
        await this.#verifyAll(part, abort.signal);
      } catch (error) {
        if (!abort.signal.aborted) this.#warn(error, 'what rests on this host could not be verified');
      } finally {
        if (this.#round?.abort === abort) this.#round = undefined;
      }
    })();
    this.#round = { abort, done, isAsked: part === 1 };
  }

  async #verifyAll(part: number, signal: AbortSignal): Promise<void> {
    const { table, context } = this.#host;
    const round = newRound();
    const beganMs = performance.now();
    const found: string[] = [];
    for (const sandbox of [...table.values()])
      if (await this.#verifySandbox(sandbox, round, part, signal)) found.push(sandbox.id);
    for (const template of (await context.templates.list()).templates) {
      signal.throwIfAborted();
      try {
        if (await this.#verifyTemplate(template, round, this.#options(part, signal))) found.push(template.templateId);
      } catch (error) {
        signal.throwIfAborted();
        if (await isTemplateThere(this.#host, template)) this.#warn(error, 'a template could not be read');
      }
    }
    await this.#keepTime();
    const tookMs = Math.round(performance.now() - beganMs);
    context.logger.info({ tookMs, files: round.files.size, damaged: found }, 'what rests on this host was verified');
  }

  /** True: it is damaged. */
  async #verifySandbox(sandbox: LiveSandbox, round: VerifyRound, part: number, ending: AbortSignal): Promise<boolean> {
    const { context, tidier } = this.#host;
    const { layout } = context;
    let damage: string | undefined;
    await tidier.whilePaused(sandbox, ending, async (paused, signal) => {
      const state = {
        machineFolder: layout.sandboxDir(sandbox.id),
        stateFolder: paused.memory ? layout.sandboxPauseDir(sandbox.id) : undefined,
        disk: paused.disk,
      };
      damage = await damageOf(() => verifyState(context, state, round, this.#options(part, signal)));
      signal.throwIfAborted();
      this.#tellSandbox(sandbox, paused, damage);
    });
    ending.throwIfAborted();
    return damage !== undefined;
  }

  #tellSandbox(sandbox: LiveSandbox, paused: PausedVm, damage: string | undefined): void {
    const { lifecycle } = sandbox;
    if (lifecycle.state !== 'paused' || lifecycle.paused !== paused || damage === paused.damage) return;
    sandbox.transition({ state: 'paused', paused: { ...paused, damage } });
    if (damage === undefined) return;
    const { logger, telemetry } = this.#host.context;
    logger.error({ sandboxId: sandbox.id, reason: damage }, 'a paused sandbox is damaged');
    void telemetry.note(sandbox.id, 'error', `Sandbox is damaged: ${damage}`);
  }

  /** True: it is damaged. */
  async #verifyTemplate(template: Template, round: VerifyRound, options: BackgroundOptions): Promise<boolean> {
    const { context, snapshots } = this.#host;
    const folder = snapshotFolder(context, template);
    const ofSnapshot = await damageOf(async () => {
      if (folder === undefined) return;
      await verifyState(context, { machineFolder: folder, stateFolder: folder, disk: undefined }, round, options);
    });
    const isBuilt = template.originSandboxId === undefined;
    const builtDisk = builtTemplateDisk(context.layout.templateDir(template.templateId), template);
    const ofDisk = isBuilt
      ? await damageOf(() => context.diskGuard.verify(builtDisk, round.files, options))
      : ofSnapshot;
    if (!(await isTemplateThere(this.#host, template))) return false;
    if (folder !== undefined && ofSnapshot !== undefined) snapshots.distrust(template, ofSnapshot);
    snapshots.noteDamage(template, ofDisk);
    return ofDisk !== undefined;
  }

  #options(part: number, signal: AbortSignal): BackgroundOptions {
    return part === 1 ? { signal } : { signal, pace: backgroundPace(this.#host.gate, part, signal) };
  }

  async #keepTime(): Promise<void> {
    const { layout } = this.#host.context;
    await replaceFile(layout.scrubTime, `${new Date().toISOString()}\n`).catch((error: unknown) =>
      this.#warn(error, 'it could not be written down when what rests here was verified'),
    );
  }

  #warn(error: unknown, what: string): void {
    if (!this.#closed.signal.aborted) this.#host.context.logger.warn({ err: error }, what);
  }
}

/** What a check finds, in plain words. Throws what is no damage. */
async function damageOf(check: () => Promise<void>): Promise<string | undefined> {
  try {
    await check();
    return undefined;
  } catch (error) {
    if (error instanceof NestboxError && error.code === 'snapshot_damaged') return error.message;
    // What the host's own disk does not give back.
    if (errnoOf(error) === 'EIO') return String(error);
    throw error;
  }
}
