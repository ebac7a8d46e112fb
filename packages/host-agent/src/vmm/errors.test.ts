import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { toDriverError } from './errors.ts';

test('an error of ours passes as it is, also from behind an undo that failed', () => {
  const error = new NestboxError('vm_died', 'It died.');
  assert.equal(toDriverError(error, ''), error);
  assert.equal(toDriverError(new SuppressedError(new Error('the undo'), error), ''), error);
});

test('a full disk has a code of its own', () => {
  const error = Object.assign(new Error('write'), { code: 'ENOSPC' });
  assert.equal(toDriverError(error, '').code, 'host_disk_full');
});

test('an abort decides, whatever it surfaced as', () => {
  const reason = new NestboxError('sandbox_stopping', 'Killed.');
  assert.equal(toDriverError(new Error('read failed'), '', AbortSignal.abort(reason)), reason);
  assert.equal(toDriverError(new Error('read failed'), '', AbortSignal.abort()).code, 'deadline_exceeded');
});

test('the rest is internal and keeps its cause', () => {
  const cause = new Error('odd');
  const error = toDriverError(cause, 'Something failed.');
  assert.equal(error.code, 'internal');
  assert.equal(error.cause, cause);
});
