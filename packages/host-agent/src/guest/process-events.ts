import type { ProcessEvent } from '@nestbox/contract/process';
import { HEADERS_TIMEOUT_MS } from './connection-pool.ts';
import { GuestDeadlineError, GuestError, toGuestError } from './guest-error.ts';

/** What a process in the guest does, in the order it did it: one `start`, output, one `end`. */
export type GuestProcessEvent =
  | { readonly kind: 'start'; readonly pid: number }
  | { readonly kind: 'stdout' | 'stderr' | 'pty'; readonly data: Uint8Array }
  | {
      readonly kind: 'end';
      /** -1 when a signal ended it. */
      readonly exitCode: number;
      /** E.g. `exit status 3`, `signal: killed`; undefined after a success. */
      readonly error: string | undefined;
    };

/** Events kept for a consumer that is slower than the guest; then the guest is made to wait. */
export const EVENT_BUFFER = 256;

/** Undefined for what is no news: keep-alives, empty messages, variants of a newer guest agent. */
export function decodeProcessEvent(message: {
  readonly event?: ProcessEvent | undefined;
}): GuestProcessEvent | undefined {
  const event = message.event?.event;
  switch (event?.case) {
    case 'start':
      return { kind: 'start', pid: event.value.pid };
    case 'data': {
      const { output } = event.value;
      return output.case === undefined ? undefined : { kind: output.case, data: output.value };
    }
    case 'end':
      return { kind: 'end', exitCode: event.value.exitCode, error: event.value.error };
    default:
      return undefined;
  }
}

/** Options of a Connect call that the pump owns. */
export interface StreamCallOptions {
  readonly signal: AbortSignal;
  onHeader(): void;
}

/**
 * The one pump of exec, exec stream, connect and terminals: reads ahead up to EVENT_BUFFER events. Aborting `signal`, or
 * leaving the loop, ends the stream and leaves the process alone. A stream that ends without `end` throws GuestError.
 */
export async function* pumpProcessEvents(
  open: (options: StreamCallOptions) => AsyncIterable<{ readonly event?: ProcessEvent | undefined }>,
  signal?: AbortSignal,
): AsyncGenerator<GuestProcessEvent, void, undefined> {
  const stream = new AbortController();
  const headersTimer = setTimeout(
    () => stream.abort(new GuestDeadlineError('start of the stream', HEADERS_TIMEOUT_MS)),
    HEADERS_TIMEOUT_MS,
  );
  const buffer: GuestProcessEvent[] = [];
  const wake = { reader: () => {}, writer: () => {} };
  let ended: { readonly error: GuestError | undefined } | undefined;

  const fill = async () => {
    let last: GuestProcessEvent | undefined;
    const combined = signal === undefined ? stream.signal : AbortSignal.any([signal, stream.signal]);
    for await (const message of open({ signal: combined, onHeader: () => clearTimeout(headersTimer) })) {
      const event = decodeProcessEvent(message);
      if (event === undefined) continue;
      buffer.push(event);
      last = event;
      wake.reader();
      if (buffer.length >= EVENT_BUFFER) await new Promise<void>((resolve) => (wake.writer = resolve));
      if (combined.aborted) throw combined.reason;
    }
    if (last?.kind !== 'end') throw new GuestError('protocol', 'The guest ended the stream before the process ended.');
  };
  const filling = fill()
    .then(
      () => (ended = { error: undefined }),
      (error: unknown) => (ended = { error: streamError(error, stream.signal, signal) }),
    )
    .finally(() => wake.reader());
  const onAbort = () => wake.writer();
  signal?.addEventListener('abort', onAbort, { once: true });

  try {
    for (;;) {
      const event = buffer.shift();
      if (event !== undefined) {
        if (buffer.length < EVENT_BUFFER) wake.writer();
        yield event;
      } else if (ended !== undefined) {
        if (ended.error !== undefined) throw ended.error;
        return;
      } else {
        await new Promise<void>((resolve) => (wake.reader = resolve));
      }
    }
  } finally {
    clearTimeout(headersTimer);
    signal?.removeEventListener('abort', onAbort);
    stream.abort();
    wake.writer();
    await filling;
  }
}

function streamError(error: unknown, own: AbortSignal, callers: AbortSignal | undefined): GuestError {
  if (own.reason instanceof GuestDeadlineError) return own.reason;
  return toGuestError(error, 'The stream of a process', callers);
}
