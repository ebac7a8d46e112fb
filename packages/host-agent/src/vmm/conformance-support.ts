import assert from 'node:assert/strict';
import { NestboxError } from '@nestbox/contract';

export async function rejectsWith(code: string, promise: Promise<unknown>): Promise<NestboxError> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof NestboxError, `expected ${code}, got ${String(error)}`);
  assert.equal(error.code, code, error.message);
  return error;
}
