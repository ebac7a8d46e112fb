/**
 * Every stable error code of the product, with the HTTP status it is answered with.
 * The wire's numeric `code` is the status; our stable string travels beside it as `error_code`
 * (control API) and as `ErrorDetail.code` (host RPC). docs/errors.md has a row for each.
 */
export const ERROR_CODES = {
  invalid_request: 400,
  unauthorized: 401,
  forbidden: 403,
  not_found: 404,
  sandbox_not_found: 404,
  template_not_found: 404,
  team_not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  sandbox_stopping: 409,
  sandbox_paused: 409,
  sandbox_not_paused: 409,
  snapshot_incompatible: 409,
  state_dir_in_use: 409,
  payload_too_large: 413,
  unsupported_media_type: 415,
  rate_limited: 429,
  team_limit: 429,
  internal: 500,
  snapshot_damaged: 500,
  not_supported: 501,
  sandbox_unreachable: 502,
  port_not_open: 502,
  vm_died: 502,
  host_unavailable: 503,
  database_unavailable: 503,
  server_not_running: 503,
  host_capacity: 503,
  not_set_up: 503,
  boot_timeout: 504,
  deadline_exceeded: 504,
  host_disk_full: 507,
  snapshot_limit: 507,
} as const satisfies Record<string, number>;

export type ErrorCode = keyof typeof ERROR_CODES;

export function isErrorCode(value: string): value is ErrorCode {
  return Object.hasOwn(ERROR_CODES, value);
}

/**
 * The one error that crosses a package's border. `message` is for the user: what happened and what to do next.
 * `cause` is for the log and never leaves the process.
 */
export class NestboxError extends Error {
  override readonly name = 'NestboxError';
  readonly code: ErrorCode;
  /** When it makes sense to try again, from now. */
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown; retryAfterMs?: number }) {
    super(message, options);
    this.code = code;
    this.retryAfterMs = options?.retryAfterMs;
  }

  get httpStatus(): number {
    return ERROR_CODES[this.code];
  }

  /** Returns `error` when it is a NestboxError already, else an `internal` one that keeps it as `cause`. */
  static from(
    error: unknown,
    fallbackMessage = 'Something went wrong inside Nestbox; the server log has the details.',
  ) {
    if (error instanceof NestboxError) return error;
    return new NestboxError('internal', fallbackMessage, { cause: error });
  }
}
