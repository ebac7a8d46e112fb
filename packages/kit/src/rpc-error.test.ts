import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Code, ConnectError } from '@connectrpc/connect';
import { ERROR_CODES, type ErrorCode, NestboxError } from '@nestbox/contract';
import { fromRpcError, toRpcError } from './rpc-error.ts';

test('every code and its message survive the way over the RPC', () => {
  for (const code of Object.keys(ERROR_CODES) as ErrorCode[]) {
    const back = fromRpcError(toRpcError(new NestboxError(code, `about ${code}`)));
    assert.equal(back.code, code);
    assert.equal(back.message, `about ${code}`);
  }
});

test('an error without our detail means that the host could not be asked', () => {
  assert.equal(fromRpcError(new ConnectError('refused', Code.Unavailable)).code, 'host_unavailable');
  assert.equal(fromRpcError(new ConnectError('late', Code.DeadlineExceeded)).code, 'deadline_exceeded');
  assert.equal(fromRpcError(new Error('socket hang up')).code, 'host_unavailable');
});

test('what is not ours tells the other side nothing of its inside', () => {
  assert.doesNotMatch(toRpcError(new Error('/secret/path')).message, /secret/);
});
