import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { formatOperation } from './operation-report.ts';

test('an operation is told with its beginning, its length and why it failed', () => {
  const operation = {
    name: 'resume',
    startedAt: '2026-01-01T00:00:00.000Z',
    stages: [{ name: 'start', startMs: 0, durationMs: 200 }],
    error: 'The VM died.',
  };
  assert.deepEqual(stripVTControlCharacters(formatOperation(operation, 40)).split('\n'), [
    'resume  2026-01-01T00:00:00.000Z  200 ms',
    '  failed: The VM died.',
    '  total  200 ms  ███████████████████████',
    '  start  200 ms  ███████████████████████',
  ]);
  const unmeasured = { name: 'pause', startedAt: '2026-01-01T00:00:00.000Z', stages: [] };
  assert.match(formatOperation(unmeasured, 40), /no parts/);
});
