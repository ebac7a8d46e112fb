import { Code, ConnectError } from '@connectrpc/connect';

/**
 * - `unreachable`: no connection, or it broke before the answer was whole
 * - `deadline`: our own time limit ended the call
 * - `aborted`: the caller's signal ended it
 * - `rejected`: the guest agent answered that it will not; `status` or `rpcCode` says what it thinks
 * - `protocol`: the guest answered what no guest agent would (the guest is not trusted)
 */
export type GuestErrorKind = 'unreachable' | 'deadline' | 'aborted' | 'rejected' | 'protocol';

export interface GuestErrorDetails {
  /** HTTP status of a REST answer. */
  readonly status?: number;
  /** Beginning of a REST answer's body. */
  readonly body?: string;
  /** Code of a Connect answer. */
  readonly rpcCode?: Code;
  readonly cause?: unknown;
}

/** Every failure of a call to the guest agent. */
export class GuestError extends Error {
  override readonly name: string = 'GuestError';
  readonly kind: GuestErrorKind;
  readonly status: number | undefined;
  readonly body: string | undefined;
  readonly rpcCode: Code | undefined;

  constructor(kind: GuestErrorKind, message: string, details: GuestErrorDetails = {}) {
    super(message, { cause: details.cause });
    this.kind = kind;
    this.status = details.status;
    this.body = details.body;
    this.rpcCode = details.rpcCode;
  }
}

/** A time limit of ours; the reason of the AbortSignals that this room makes. */
export class GuestDeadlineError extends GuestError {
  constructor(what: string, limitMs: number) {
    super('deadline', `The guest agent did not answer in time (${what}: ${limitMs} ms).`);
  }
}

/** Maps whatever Node or Connect threw. `signal` is the caller's own: when it is aborted, that is the reason. */
export function toGuestError(error: unknown, what: string, signal?: AbortSignal): GuestError {
  if (error instanceof GuestError) return error;
  const deadline = findInChain(error, (link) => link instanceof GuestDeadlineError);
  if (deadline instanceof GuestDeadlineError) return deadline;
  if (signal?.aborted) return new GuestError('aborted', `${what} was given up.`, { cause: error });
  if (error instanceof ConnectError) {
    // An answer of the guest has no cause; what failed on our side carries Node's error.
    if (error.cause === undefined)
      return new GuestError('rejected', `${what}: ${error.rawMessage}`, { rpcCode: error.code, cause: error });
    if (error.code === Code.DeadlineExceeded)
      return new GuestError('deadline', `${what} took too long.`, { cause: error });
  }
  const message = error instanceof Error ? error.message : String(error);
  return new GuestError('unreachable', `${what}: the guest agent cannot be reached: ${message}`, { cause: error });
}

function findInChain(error: unknown, matches: (link: unknown) => boolean): unknown {
  let link = error;
  for (let depth = 0; depth < 8 && link instanceof Error; depth++) {
    if (matches(link)) return link;
    link = link.cause;
  }
  return undefined;
}
