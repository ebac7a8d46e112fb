import type { RunningVm } from './lifecycle.ts';
import type { LiveSandbox } from './live-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';

/** How often a guest's clock is compared with ours: more often the more it strays. */
const FIRST_LOOK_MS = 1500;
const FIRST_SYNC_MS = 30_000;
const SHORTEST_SYNC_MS = 15_000;
const LONGEST_SYNC_MS = 2 * 60_000;
/** A clock that strays less than this between two looks is looked at half as often. */
const STEADY_MS = 5;
const SYNC_TIMEOUT_MS = 10_000;

/** Looks after each VM that runs: hears of its end, and keeps its clock in step. */
export class RunningVms {
  readonly #context: SandboxContext;
  readonly #onExit: (sandbox: LiveSandbox, vm: RunningVm, reason: string) => Promise<void>;
  readonly #watches = new Map<string, () => void>();

  constructor(context: SandboxContext, onExit: (sandbox: LiveSandbox, vm: RunningVm, reason: string) => Promise<void>) {
    this.#context = context;
    this.#onExit = onExit;
  }

  watch(sandbox: LiveSandbox, vm: RunningVm): void {
    this.unwatch(sandbox.id);
    const { driver, logger } = this.#context;
    const stopListening = driver.onExit(vm.handle, (reason) => {
      this.unwatch(sandbox.id);
      this.#onExit(sandbox, vm, reason).catch((error: unknown) =>
        logger.error({ err: error, sandboxId: sandbox.id }, 'a dead VM could not be cleaned up'),
      );
    });
    const stopClock = this.#keepClock(sandbox.id, vm);
    this.#watches.set(sandbox.id, () => {
      stopListening();
      stopClock();
    });
  }

  unwatch(sandboxId: string): void {
    this.#watches.get(sandboxId)?.();
    this.#watches.delete(sandboxId);
  }

  close(): void {
    for (const sandboxId of [...this.#watches.keys()]) this.unwatch(sandboxId);
  }

  /** The first comparison is soon: what `init` corrects is off by the time that the guest's answer took. */
  #keepClock(sandboxId: string, { guest }: RunningVm): () => void {
    const stopped = new AbortController();
    let intervalMs = FIRST_SYNC_MS;
    let timer: NodeJS.Timeout | undefined;
    const sync = async () => {
      try {
        const limit = AbortSignal.any([stopped.signal, AbortSignal.timeout(SYNC_TIMEOUT_MS)]);
        const { foundMs } = await guest.syncClock(limit);
        intervalMs = nextInterval(intervalMs, foundMs);
      } catch (error) {
        if (stopped.signal.aborted) return;
        this.#context.logger.debug({ err: error, sandboxId }, 'the clock of a guest could not be compared');
      }
      if (!stopped.signal.aborted) timer = setTimeout(() => void sync(), intervalMs).unref();
    };
    timer = setTimeout(() => void sync(), FIRST_LOOK_MS).unref();
    return () => {
      stopped.abort();
      clearTimeout(timer);
    };
  }
}

export function nextInterval(intervalMs: number, foundMs: number): number {
  const next = Math.abs(foundMs) < STEADY_MS ? intervalMs * 2 : intervalMs / 2;
  return Math.min(LONGEST_SYNC_MS, Math.max(SHORTEST_SYNC_MS, next));
}
