import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { UNSUPPORTED_OPERATIONS } from './unsupported-operations.ts';

test('docs/compatibility.md calls "later" exactly what the API answers with not_supported', () => {
  const page = readFileSync(new URL('../../../../docs/compatibility.md', import.meta.url), 'utf8');
  const documented = [...page.matchAll(/^\| `([A-Z]+ \/[^`]*)` \| later \|/gm)].map(([, operation]) => operation);
  const served = UNSUPPORTED_OPERATIONS.map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, '{$1}')}`);
  assert.equal(documented.length, served.length);
  assert.deepEqual(new Set(documented), new Set(served));
});
