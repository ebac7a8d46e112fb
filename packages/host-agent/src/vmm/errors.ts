import { NestboxError } from '@nestbox/contract';

/** What leaves a driver: a NestboxError in any case. An abort is told by the signal, whatever error it surfaced as. */
export function toDriverError(error: unknown, fallback: string, signal?: AbortSignal): NestboxError {
  // An undo that failed on the way out stands in front of the error that matters.
  const original = error instanceof SuppressedError ? error.suppressed : error;
  if (signal?.aborted) {
    if (signal.reason instanceof NestboxError) return signal.reason;
    return new NestboxError('deadline_exceeded', 'The VM was given up before it was ready.', { cause: signal.reason });
  }
  if (original instanceof NestboxError) return original;
  const code = original instanceof Error && 'code' in original ? original.code : undefined;
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new NestboxError(
      'host_disk_full',
      "The host's disk is full: a file of the VM could not be written. Delete sandboxes or free space, then try again.",
      { cause: error },
    );
  return new NestboxError('internal', fallback, { cause: error });
}

/** The error for a VMM that lives and gives no answer that can be used. */
export function vmmUnreachable(cause: unknown): NestboxError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new NestboxError('sandbox_unreachable', `The VM is there, but its manager does not answer: ${why}`, { cause });
}
