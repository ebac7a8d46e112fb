import { keepClock } from './keep-clock.ts';
import type { RunningVm } from './lifecycle.ts';
import type { LiveSandbox } from './live-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';

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
    const stopClock = keepClock(vm.guest, logger.child({ sandboxId: sandbox.id }));
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
}
