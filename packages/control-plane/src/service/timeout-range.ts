import { NestboxError } from '@nestbox/contract';

/** Longest time-out that a client may ask for when nothing else is configured: 24 hours. */
export const DEFAULT_MAX_TIMEOUT_SEC = 86_400;

/** Throws `invalid_request` unless `minSec <= timeoutSec <= maxSec`. */
export function checkTimeout(timeoutSec: number, minSec: number, maxSec: number): void {
  if (timeoutSec >= minSec && timeoutSec <= maxSec) return;
  throw new NestboxError(
    'invalid_request',
    `The field "timeout" must be between ${minSec} and ${maxSec} seconds; it was ${timeoutSec}.`,
  );
}
