import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatStage } from './server-timing.ts';

test('a stage is a token and a duration, whatever a host calls it', () => {
  assert.equal(formatStage({ name: 'save memory', durationMs: 1.23456 }), 'save-memory;dur=1.23');
  assert.equal(formatStage({ name: '', durationMs: 0 }), 'unnamed;dur=0');
  assert.equal(formatStage({ name: 'a,b;c"d\r\nSet-Cookie: x', durationMs: 5 }), 'a-b-c-d--Set-Cookie--x;dur=5');
  assert.equal(formatStage({ name: 'x', durationMs: Number.NaN }), 'x');
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.double(), (name, durationMs) =>
      /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,60}(;dur=[0-9.e+-]+)?$/.test(formatStage({ name, durationMs })),
    ),
  );
});
