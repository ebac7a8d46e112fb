import { NestboxError } from '@nestbox/contract';
import { isSameSpec } from './live-sandbox.ts';
import type { SandboxInfo, SandboxSpec } from './sandbox.ts';
import type { Traced } from './trace.ts';

/** A create that others may join and a destroy can end. */
interface PendingCreate {
  readonly spec: SandboxSpec;
  readonly cancel: AbortController;
  readonly result: Promise<Traced<SandboxInfo>>;
}

/** The creates under way. Each belongs to the host, not to whoever asked for it. */
export class PendingCreates {
  readonly #pending = new Map<string, PendingCreate>();
  /** Ids under which creates will begin, with the reason when one must not any more. */
  readonly #announced = new Map<string, NestboxError | undefined>();

  /** The create of that id, if there is one. Throws conflict when it was asked for with other settings. */
  join(spec: SandboxSpec): Promise<Traced<SandboxInfo>> | undefined {
    const pending = this.#pending.get(spec.sandboxId);
    if (pending !== undefined) requireSameSpec(pending.spec, spec);
    return pending?.result;
  }

  has(sandboxId: string): boolean {
    return this.#pending.has(sandboxId);
  }

  /** Until it is disposed of, a cancel of one of these ids keeps its create from beginning: whoever was told the id may not want it any more. */
  announce(sandboxIds: readonly string[]): Disposable {
    for (const sandboxId of sandboxIds) this.#announced.set(sandboxId, undefined);
    return {
      [Symbol.dispose]: () => {
        for (const sandboxId of sandboxIds) this.#announced.delete(sandboxId);
      },
    };
  }

  /** Throws the reason of a cancel that came after the id was announced. */
  begin(
    spec: SandboxSpec,
    create: (signal: AbortSignal) => Promise<Traced<SandboxInfo>>,
  ): Promise<Traced<SandboxInfo>> {
    const reason = this.#announced.get(spec.sandboxId);
    if (reason !== undefined) throw reason;
    const cancel = new AbortController();
    const result = create(cancel.signal).finally(() => this.#pending.delete(spec.sandboxId));
    this.#pending.set(spec.sandboxId, { spec, cancel, result });
    return result;
  }

  /** True when there was one. It ends with the reason, soon. */
  cancel(sandboxId: string, reason: NestboxError): boolean {
    const pending = this.#pending.get(sandboxId);
    pending?.cancel.abort(reason);
    const isAnnounced = this.#announced.has(sandboxId);
    if (isAnnounced) this.#announced.set(sandboxId, reason);
    return pending !== undefined || isAnnounced;
  }

  /** Resolves when all have come to their end. */
  async cancelAll(reason: NestboxError): Promise<void> {
    const all = [...this.#pending.values()];
    for (const { cancel } of all) cancel.abort(reason);
    await Promise.allSettled(all.map(({ result }) => result));
  }
}

export function requireSameSpec(known: SandboxSpec, asked: SandboxSpec): void {
  if (!isSameSpec(known, asked))
    throw new NestboxError('conflict', `There is a sandbox ${asked.sandboxId} already, created with other settings.`);
}

/** Ends only the waiting when the caller goes; what is waited for goes on. */
export async function waitFor<T>(result: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return result;
  const { promise: gone, reject } = Promise.withResolvers<never>();
  const onAbort = () =>
    reject(new NestboxError('deadline_exceeded', 'Nobody waits for this sandbox any more.', { cause: signal.reason }));
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([result, gone]);
  } finally {
    signal.removeEventListener('abort', onAbort);
    // A failure that comes after its last waiter left has been logged by the create itself.
    result.catch(() => {});
  }
}
