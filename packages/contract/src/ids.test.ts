import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { newSandboxId, newTemplateId, parseSandboxId } from './ids.ts';

test('a new sandbox id is i and 20 characters, and no two are alike', () => {
  const ids = Array.from({ length: 1000 }, newSandboxId);
  for (const id of ids) assert.match(id, /^i[a-z0-9]{20}$/);
  assert.equal(new Set(ids).size, ids.length);
});

test('a new template id is 20 characters', () => {
  assert.match(newTemplateId(), /^[a-z0-9]{20}$/);
});

test('what we make is what we accept, with or without the legacy client suffix', () => {
  const id = newSandboxId();
  assert.equal(parseSandboxId(id), id);
  assert.equal(parseSandboxId(`${id}-6532622b`), id);
});

test('nothing but lower-case letters and digits ever comes out of the parser', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => {
      const id = parseSandboxId(text);
      return id === undefined || (/^[a-z0-9]{1,32}$/.test(id) && text.startsWith(id));
    }),
  );
  for (const bad of ['', '-', '-abc', '../etc', 'ABC', 'a'.repeat(33), 'a.b', 'a/b', 'a\0', 'a\n'])
    assert.equal(parseSandboxId(bad), undefined, JSON.stringify(bad));
});
