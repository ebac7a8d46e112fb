import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { exportLines } from './export-lines.ts';

test('a shell that reads the lines has the values, whatever is in them', () => {
  const endpoints = {
    apiUrl: 'http://127.0.0.1:3000',
    sandboxUrl: "http://[::1]:3001/it's $HOME `x`",
    apiKey: 'e2b_0123',
  };
  const script = `${exportLines(endpoints)}\nprintf '%s\\n' "$E2B_API_URL" "$E2B_SANDBOX_URL" "$E2B_API_KEY"`;
  const { stdout } = spawnSync('sh', ['-c', script], { encoding: 'utf8' });
  assert.deepEqual(stdout.trimEnd().split('\n'), [endpoints.apiUrl, endpoints.sandboxUrl, endpoints.apiKey]);
});
