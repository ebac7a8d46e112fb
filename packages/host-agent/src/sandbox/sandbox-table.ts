import { NestboxError } from '@nestbox/contract';
import type { Lifecycle, RunningVm } from './lifecycle.ts';
import { LiveSandbox, type SandboxIdentity } from './live-sandbox.ts';
import { requireRunningVm } from './require-state.ts';
import type { SandboxInfo } from './sandbox.ts';
import { SandboxEvents } from './sandbox-events.ts';

/** Ends whose reason is still told to those who ask. */
const MAX_REMEMBERED_ENDS = 500;

/** The sandboxes that this process knows, and the news of each change. */
export class SandboxTable {
  readonly events = new SandboxEvents();
  readonly #live = new Map<string, LiveSandbox>();
  readonly #ends = new Map<string, string>();

  /** Adds one and tells it. */
  add(identity: SandboxIdentity, lifecycle: Lifecycle): LiveSandbox {
    const sandbox = new LiveSandbox(identity, lifecycle, (changed) => this.events.publish(changed.info));
    this.#live.set(sandbox.id, sandbox);
    this.#ends.delete(sandbox.id);
    this.events.publish(sandbox.info);
    return sandbox;
  }

  /** The last change of a sandbox; its reason is remembered for a while. */
  remove(sandbox: LiveSandbox, reason: string): void {
    sandbox.transition({ state: 'gone', reason });
    this.#live.delete(sandbox.id);
    this.#ends.set(sandbox.id, reason);
    if (this.#ends.size > MAX_REMEMBERED_ENDS) {
      const oldest = this.#ends.keys().next();
      if (oldest.done !== true) this.#ends.delete(oldest.value);
    }
  }

  get(sandboxId: string): LiveSandbox | undefined {
    return this.#live.get(sandboxId);
  }

  values(): Iterable<LiveSandbox> {
    return this.#live.values();
  }

  list(): SandboxInfo[] {
    return Array.from(this.#live.values(), (sandbox) => sandbox.info);
  }

  /** Throws sandbox_not_found, with the reason when its end is remembered. */
  require(sandboxId: string): LiveSandbox {
    const sandbox = this.#live.get(sandboxId);
    if (sandbox !== undefined) return sandbox;
    const end = this.#ends.get(sandboxId);
    throw new NestboxError(
      'sandbox_not_found',
      end === undefined ? `There is no sandbox ${sandboxId} on this host.` : `Sandbox ${sandboxId} is gone: ${end}`,
    );
  }

  /** Throws besides what `requireRunningVm` does. */
  requireRunning(sandboxId: string): { readonly sandbox: LiveSandbox; readonly vm: RunningVm } {
    const sandbox = this.require(sandboxId);
    return { sandbox, vm: requireRunningVm(sandbox) };
  }
}
