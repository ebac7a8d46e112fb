import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ERROR_CODES, isErrorCode, NestboxError } from './errors.ts';

test('a code is known by its own name only', () => {
  assert.ok(isErrorCode('sandbox_not_found'));
  for (const bad of ['', 'toString', 'constructor', 'SANDBOX_NOT_FOUND']) assert.ok(!isErrorCode(bad), bad);
});

test('an error that is ours stays as it is; any other becomes internal and keeps its cause to itself', () => {
  const own = new NestboxError('conflict', 'taken');
  assert.equal(NestboxError.from(own), own);
  const secret = new Error('password is hunter2');
  const wrapped = NestboxError.from(secret);
  assert.equal(wrapped.code, 'internal');
  assert.equal(wrapped.httpStatus, 500);
  assert.equal(wrapped.cause, secret);
  assert.doesNotMatch(wrapped.message, /hunter2/);
});

test('docs/errors.md has a row with the right status for every code, and no other', () => {
  const page = readFileSync(new URL('../../../docs/errors.md', import.meta.url), 'utf8');
  const rows = [...page.matchAll(/^\| `([a-z_]+)` \| (\d{3}) \|/gm)].map(([, code, status]) => [code, Number(status)]);
  assert.deepEqual(Object.fromEntries(rows), ERROR_CODES);
});
