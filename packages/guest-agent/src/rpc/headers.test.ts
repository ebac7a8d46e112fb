import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { keepAliveIntervalMs } from './keep-alive.ts';
import { basicUserName } from './request-user.ts';
import { dropEndlessTimeout } from './timeout.ts';

const interval = (value?: string) =>
  keepAliveIntervalMs(new Headers(value === undefined ? {} : { 'Keepalive-Ping-Interval': value }));

test('the keep-alive interval is the header in seconds, 90 s without a usable one', () => {
  assert.equal(interval('50'), 50_000);
  assert.equal(interval('1'), 1_000);
  for (const value of [undefined, '', '0', '-5', '1.5', 'soon', '99999999999']) assert.equal(interval(value), 90_000);
  assert.equal(interval('999999999'), 2_147_483_647);
});

test('the user is the name of Basic credentials, whatever the password', () => {
  const header = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`;
  assert.equal(basicUserName(header('user:')), 'user');
  assert.equal(basicUserName(header('root:secret:more')), 'root');
  assert.equal(basicUserName(header(':')), '');
  for (const value of [undefined, null, '', 'Basic', header('no colon'), 'Bearer abc', 'Basic %%%']) {
    assert.equal(basicUserName(value), undefined);
  }
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.string(), (user, password) => {
      fc.pre(!user.includes(':'));
      assert.equal(basicUserName(header(`${user}:${password}`)), Buffer.from(user).toString('utf8'));
    }),
  );
});

test('a deadline beyond what timers can count is dropped, any other is kept', () => {
  const left = (headers: Record<string, string>) => {
    dropEndlessTimeout(headers);
    return Object.keys(headers);
  };
  assert.deepEqual(left({ 'connect-timeout-ms': '2147483647' }), ['connect-timeout-ms']);
  assert.deepEqual(left({ 'connect-timeout-ms': '2147483648' }), []);
  assert.deepEqual(left({ 'connect-timeout-ms': 'rubbish' }), ['connect-timeout-ms']);
  assert.deepEqual(left({ 'grpc-timeout': '500H' }), ['grpc-timeout']);
  assert.deepEqual(left({ 'grpc-timeout': '99999999H' }), []);
});
