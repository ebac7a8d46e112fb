import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BoundedCache } from './bounded-cache.ts';

test('never weighs more than its bound, and never gives another value than the last one set', () => {
  const step = fc.record({ key: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'), size: fc.nat(8), set: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const cache = new BoundedCache<string>(12, (value) => value.length);
      const last = new Map<string, string>();
      for (const [index, { key, size, set }] of steps.entries()) {
        if (set) {
          const value = String(index).padEnd(size, '.').slice(0, size);
          cache.set(key, value);
          last.set(key, value);
        } else {
          const got = cache.get(key);
          assert.ok(got === undefined || got === last.get(key));
        }
        assert.ok(cache.weight <= 12);
      }
    }),
  );
});

test('keeps what is used while what is not goes', () => {
  const cache = new BoundedCache<number>(8);
  cache.set('used', 1);
  cache.set('unused', 2);
  for (let key = 0; key < 100; key++) {
    cache.set(String(key), key);
    assert.equal(cache.get('used'), 1);
  }
  assert.equal(cache.get('unused'), undefined);
  assert.equal(cache.get('99'), 99);
});

test('does not push everything out for a value that alone would fill half of it', () => {
  const cache = new BoundedCache<string>(8, (value) => value.length);
  cache.set('a', 'kept');
  cache.set('b', 'x'.repeat(5));
  assert.deepEqual([cache.get('a'), cache.get('b')], ['kept', undefined]);
  cache.set('a', 'x'.repeat(5));
  assert.equal(cache.get('a'), undefined, 'nor shows what it was before');
});
