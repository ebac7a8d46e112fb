import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import fc from 'fast-check';
import { fullName, parseSnapshotName, readTemplateName, shortName } from './template-name.ts';

test('a name is read with its tag, or with the default one', () => {
  for (const [text, base, tag] of [
    ['base', 'base', 'default'],
    [' Base:V1 ', 'base', 'v1'],
    ['a:b:c', 'a', 'b:c'],
    [':x', '', 'x'],
    ['', '', 'default'],
  ] as const)
    assert.deepEqual(readTemplateName(text), { base, tag });
});

test('people need not see the default tag', () => {
  assert.equal(shortName('work:default'), 'work');
  assert.equal(shortName('work'), 'work');
  assert.equal(shortName('work:v1'), 'work:v1');
});

test('whatever is accepted for a snapshot is plain, and is read again as the same', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^[a-zA-Z0-9_:. -]{0,20}$/)), (text) => {
      try {
        const name = parseSnapshotName(text);
        assert.match(fullName(name), /^[a-z0-9_-]+:[a-z0-9_.-]+$/);
        assert.deepEqual(parseSnapshotName(fullName(name)), name);
      } catch (error) {
        assert.ok(error instanceof NestboxError && error.code === 'invalid_request');
      }
    }),
    { numRuns: 500 },
  );
});
