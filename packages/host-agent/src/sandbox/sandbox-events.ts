import type { SandboxEvent, SandboxInfo } from './sandbox.ts';

/** News that a watcher may be behind before it gets the whole list again instead. */
const MAX_PENDING = 4096;

/** Tells watchers what changes. */
export class SandboxEvents {
  readonly #watchers = new Set<Watcher>();
  readonly #listeners = new Set<(sandbox: SandboxInfo) => void>();

  publish(sandbox: SandboxInfo): void {
    for (const watcher of this.#watchers) watcher.push(sandbox);
    for (const listener of this.#listeners) listener(sandbox);
  }

  /** Calls back at once for each change; for what lives in this process. The listener must not throw. */
  onChange(listener: (sandbox: SandboxInfo) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** `list` is asked at the moment a complete list is due, so nothing falls between list and changes. */
  async *watch(list: () => readonly SandboxInfo[], signal: AbortSignal): AsyncGenerator<SandboxEvent, void, undefined> {
    const watcher = new Watcher();
    this.#watchers.add(watcher);
    const onAbort = () => watcher.end();
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) watcher.end();
    try {
      for (;;) {
        const news = await watcher.next();
        if (news === 'end') return;
        if (news === 'list') yield { kind: 'snapshot', sandboxes: list() };
        else yield { kind: 'changed', sandbox: news };
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#watchers.delete(watcher);
    }
  }

  /** Ends every watch. */
  close(): void {
    for (const watcher of this.#watchers) watcher.end();
  }
}

/** One watcher's unread news: the newest state of each sandbox, in the order in which they first changed. */
class Watcher {
  readonly #pending = new Map<string, SandboxInfo>();
  #due: 'list' | 'changes' | 'end' = 'list';
  #wake = () => {};

  push(sandbox: SandboxInfo): void {
    // A list that is due tells it too; what is missing from a list is gone.
    if (this.#due !== 'changes') return;
    this.#pending.set(sandbox.sandboxId, sandbox);
    if (this.#pending.size > MAX_PENDING) {
      this.#pending.clear();
      this.#due = 'list';
    }
    this.#wake();
  }

  end(): void {
    this.#due = 'end';
    this.#wake();
  }

  async next(): Promise<SandboxInfo | 'list' | 'end'> {
    for (;;) {
      if (this.#due === 'end') return 'end';
      if (this.#due === 'list') {
        this.#due = 'changes';
        return 'list';
      }
      const first = this.#pending.values().next();
      if (first.done !== true) {
        this.#pending.delete(first.value.sandboxId);
        return first.value;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
