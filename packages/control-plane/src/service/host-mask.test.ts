import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostOfMask, isHostMask } from './host-mask.ts';

const PORT = ['$', '{PORT}'].join('');

test('a mask is a host name, with the port that is asked for wherever it says so', () => {
  for (const mask of ['localhost', 'localhost:3000', `localhost:${PORT}`, `${PORT}-app.internal`, 'A.b-c_d'])
    assert.ok(isHostMask(mask), mask);
  assert.equal(hostOfMask(`${PORT}-app.internal:${PORT}`, 8080), '8080-app.internal:8080');
  assert.equal(hostOfMask('localhost', 8080), 'localhost');
});

test('what could end a header or name more than a host is none', () => {
  for (const mask of [
    '',
    'a b',
    'a\r\nX: y',
    'a/b',
    'a@b',
    'http://a',
    'a:',
    'a:b',
    'a:1:2',
    '{PORT}',
    'x'.repeat(256),
  ])
    assert.ok(!isHostMask(mask), JSON.stringify(mask));
});
