import { open } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { errnoOf } from '../storage/errno.ts';
import type { LogEntry } from '../telemetry/log-entry.ts';
import type { RunningVm } from './lifecycle.ts';
import type { LiveSandbox } from './live-sandbox.ts';
import type { SandboxInfo, SandboxState } from './sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';

/** One sample in so many milliseconds; the space for samples is chosen for it (metric-history.ts). */
const INTERVAL_MS = 10_000;
/** A guest that has just begun has better things to do. */
const SETTLE_MS = 2000;
/** Guests that are asked at once. */
const CONCURRENCY = 2;
const GUEST_TIMEOUT_MS = 2000;
/** Nobody's kill waits longer than this for the last lines. */
const LAST_TIMEOUT_MS = 300;
const SWEEP_INTERVAL_MS = 3_600_000;
/** Of the console at once; what a guest writes faster than that is left out. */
const MAX_CONSOLE_BYTES = 64 * 1024;

/**
 * Asks running guests now and then how they fare and what they have written down, and notes what happens to sandboxes. Only
 * running ones are asked; a guest that leaves that state is let go of at once, so that no pause waits for it.
 */
export class TelemetryCollector {
  readonly #context: SandboxContext;
  readonly #sandboxes: () => Iterable<LiveSandbox>;
  readonly #underWay = new Map<string, { readonly work: Promise<void>; readonly abort: AbortController }>();
  readonly #states = new Map<string, SandboxState>();
  readonly #writes = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  readonly #rounds: Promise<void>;
  #sweptAtMs = 0;

  constructor(context: SandboxContext, sandboxes: () => Iterable<LiveSandbox>, intervalMs = INTERVAL_MS) {
    this.#context = context;
    this.#sandboxes = sandboxes;
    this.#rounds = this.#run(intervalMs);
  }

  /** Asks a guest now; resolves when its answers are kept, or when it did not answer. Never rejects. */
  refresh(sandbox: LiveSandbox): Promise<void> {
    const { lifecycle } = sandbox;
    if (lifecycle.state !== 'running' || lifecycle.stall !== undefined) return Promise.resolve();
    const known = this.#underWay.get(sandbox.id);
    if (known !== undefined) return known.work;
    const abort = new AbortController();
    const signal = AbortSignal.any([abort.signal, AbortSignal.timeout(GUEST_TIMEOUT_MS)]);
    const work = this.#ask(sandbox, lifecycle.vm, signal).finally(() => this.#underWay.delete(sandbox.id));
    this.#underWay.set(sandbox.id, { work, abort });
    return work;
  }

  /** Before the VM and the folder of a sandbox go that does not run any more, as far as others see. */
  async last(sandbox: LiveSandbox, vm: RunningVm | undefined): Promise<void> {
    await this.#underWay.get(sandbox.id)?.work;
    if (vm === undefined) await this.#takeConsole(sandbox.id);
    else await this.#ask(sandbox, vm, AbortSignal.timeout(LAST_TIMEOUT_MS));
  }

  /** To be called at each change of a sandbox. */
  noteChange(info: SandboxInfo): void {
    const { sandboxId, state } = info;
    const before = this.#states.get(sandboxId);
    this.#states.set(sandboxId, state);
    if (state !== 'running') this.#underWay.get(sandboxId)?.abort.abort();
    const told = describeChange(before, info);
    const { telemetry } = this.#context;
    if (told !== undefined && before !== state)
      this.#write(telemetry.note(sandboxId, told.level, told.message, { event_type: `sandbox_${state}` }));
    if (state !== 'gone') return;
    this.#states.delete(sandboxId);
    this.#write(telemetry.ended(sandboxId));
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    for (const { abort } of this.#underWay.values()) abort.abort();
    await this.#rounds;
    await Promise.all([...this.#underWay.values()].map(({ work }) => work));
    await Promise.all(this.#writes);
  }

  async #run(intervalMs: number): Promise<void> {
    const { signal } = this.#stopping;
    const { telemetry, logger } = this.#context;
    while (!signal.aborted) {
      await delay(intervalMs, undefined, { signal, ref: false }).catch(() => {});
      if (signal.aborted) return;
      const nowMs = Date.now();
      const waiting = [...this.#sandboxes()].filter(({ identity }) => nowMs - identity.createdAtMs >= SETTLE_MS);
      await Promise.all(
        Array.from({ length: CONCURRENCY }, async () => {
          for (let next = waiting.pop(); next !== undefined && !signal.aborted; next = waiting.pop())
            await this.refresh(next);
        }),
      );
      if (nowMs - this.#sweptAtMs < SWEEP_INTERVAL_MS) continue;
      this.#sweptAtMs = nowMs;
      const live = new Set(Array.from(this.#sandboxes(), ({ id }) => id));
      await telemetry
        .sweep((id) => live.has(id))
        .catch((error: unknown) => logger.warn({ err: error }, 'old logs could not be removed'));
    }
  }

  async #ask(sandbox: LiveSandbox, vm: RunningVm, signal: AbortSignal): Promise<void> {
    const { telemetry, logger } = this.#context;
    const { id } = sandbox;
    try {
      await this.#takeConsole(id);
      await telemetry.metrics.append(id, await vm.guest.metrics(signal));
      for (;;) {
        const position = (await telemetry.logs.marks(id)).guest;
        const answer = await vm.guest.logs(id, position, signal);
        if (answer === undefined || answer.lines.length === 0) return;
        const entries = answer.lines.map(({ time_ms: timeMs, level, message, fields }) => ({
          timeMs,
          level,
          message,
          fields,
        }));
        await telemetry.logs.append(id, entries, { guest: { buffer: answer.buffer, seq: answer.next } });
      }
    } catch (error) {
      if (!signal.aborted) logger.debug({ err: error, sandboxId: id }, 'a guest did not tell how it fares');
    }
  }

  async #takeConsole(sandboxId: string): Promise<void> {
    const { telemetry, layout, logger } = this.#context;
    try {
      const from = (await telemetry.logs.marks(sandboxId)).console ?? 0;
      const { lines, end } = await readConsole(layout.sandboxConsole(sandboxId), from);
      const timeMs = Date.now();
      const entries = lines.map(
        (message): LogEntry => ({ timeMs, level: 'debug', message, fields: { logger: 'console' } }),
      );
      await telemetry.logs.append(sandboxId, entries, { console: end });
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') logger.debug({ err: error, sandboxId }, 'a console could not be read');
    }
  }

  #write(work: Promise<void>): void {
    this.#writes.add(work);
    void work.finally(() => this.#writes.delete(work));
  }
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const CONTROL = /\u001b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_c])|[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

/** Whole lines of a console behind an offset, and where they end. A console that became shorter has begun anew. */
async function readConsole(path: string, from: number): Promise<{ lines: string[]; end: number }> {
  await using file = await open(path, 'r');
  const { size } = await file.stat();
  const start = Math.max(size < from ? 0 : from, size - MAX_CONSOLE_BYTES);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(size - start), 0, size - start, start);
  const whole = buffer.subarray(0, buffer.subarray(0, bytesRead).lastIndexOf(0x0a) + 1);
  const lines = whole
    .toString('utf8')
    .split('\n')
    .map((line) => line.replaceAll(CONTROL, '').trimEnd())
    .filter((line) => line !== '');
  return { lines, end: start + whole.length };
}

function describeChange(
  before: SandboxState | undefined,
  { state, reason, pausedMemory }: SandboxInfo,
): { readonly level: 'info'; readonly message: string } | undefined {
  switch (state) {
    case 'running':
      if (before === 'resuming') return { level: 'info', message: 'Sandbox resumed' };
      // Whoever could not pause it has told why.
      if (before === 'pausing') return undefined;
      return { level: 'info', message: before === undefined ? 'Sandbox taken over' : 'Sandbox started' };
    case 'paused':
      return before === undefined || before === 'resuming'
        ? undefined
        : { level: 'info', message: `Sandbox paused ${pausedMemory ? 'with its memory' : 'with its disk alone'}` };
    case 'gone':
      return { level: 'info', message: `Sandbox ended: ${reason ?? 'for no known reason'}` };
    case 'starting':
    case 'pausing':
    case 'resuming':
    case 'stopping':
      return undefined;
  }
}
