import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { endToEndHeaders, hasSeveralHosts } from './http-headers.ts';

describe('end-to-end headers', () => {
  test('keep order, spelling and repetition, and lose what belongs to one connection', () => {
    const raw = [
      'X-B',
      '1',
      'Connection',
      'close, X-Own',
      'x-own',
      '2',
      'x-b',
      '3',
      'TE',
      'trailers',
      'Upgrade',
      'h2c',
    ];
    assert.deepEqual(endToEndHeaders(raw, 'close, X-Own'), ['X-B', '1', 'x-b', '3']);
  });

  test('cannot be stripped of what gives the message its meaning or length', () => {
    const raw = ['Host', 'a', 'Content-Length', '3', 'Authorization', 'x', 'Cookie', 'y'];
    assert.deepEqual(endToEndHeaders(raw, 'host, content-length, authorization, cookie'), raw);
  });

  test('leave out what the caller names, in any spelling', () => {
    const dropped = new Set(['x-secret']);
    assert.deepEqual(endToEndHeaders(['X-Secret', 'a', 'A', 'b'], 'keep-alive', dropped), ['A', 'b']);
  });

  test('named by a Connection header in odd spelling are found too', () => {
    assert.deepEqual(endToEndHeaders(['X-A', '1', 'B', '2', 'C', '3'], ' , x-a ,b'), ['C', '3']);
  });
});

test('several Host headers are noticed', () => {
  assert.equal(hasSeveralHosts(['Host', 'a', 'X', 'host', 'host', 'b']), true);
  assert.equal(hasSeveralHosts(['Host', 'a', 'X', 'host']), false);
});
