import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BASE_TEMPLATE_ID, mmdebstrapProgress } from './base-template.ts';

test('progress is told once a line, however the output is cut', () => {
  const details: string[] = [];
  const onOutput = mmdebstrapProgress((detail) => details.push(detail));
  for (const piece of [
    'I: running apt',
    '-get update...\nI: extr',
    'acting archives...\n',
    'W: warning\ndone\n',
    'I: success in 23.4 seconds\n',
  ])
    onOutput(piece);
  assert.deepEqual(details, ['running apt-get update', 'extracting archives', 'success in 23.4 seconds']);
});

test('the id of the template base is an id as templates have', () => {
  assert.match(BASE_TEMPLATE_ID, /^[a-z0-9]{20}$/);
});
