import { NestboxError } from '@nestbox/contract';

export interface BootDeadline extends Disposable {
  /** Aborted by the caller's signal too. */
  readonly signal: AbortSignal;
  clear(): void;
}

export function bootTimeout(sandboxId: string, limitMs: number): NestboxError {
  return new NestboxError('boot_timeout', `The guest of sandbox ${sandboxId} was not ready within ${limitMs} ms.`);
}

/** The time that a VM has from its start to its agent's first answer. */
export function bootDeadline(sandboxId: string, limitMs: number, signal: AbortSignal): BootDeadline {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(bootTimeout(sandboxId, limitMs)), limitMs);
  const clear = () => clearTimeout(timer);
  return { signal: AbortSignal.any([signal, limit.signal]), clear, [Symbol.dispose]: clear };
}
