import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, test } from 'node:test';
import { setupReporter } from './setup-reporter.ts';

const COLOR_VARIABLES = ['NO_COLOR', 'NODE_DISABLE_COLORS', 'FORCE_COLOR'] as const;
let before: (string | undefined)[] = [];
beforeEach(() => {
  before = COLOR_VARIABLES.map((name) => process.env[name]);
  for (const name of COLOR_VARIABLES) delete process.env[name];
});
afterEach(() => {
  for (const [index, name] of COLOR_VARIABLES.entries())
    if (before[index] !== undefined) process.env[name] = before[index];
});

function reported(properties: object): string {
  const output = Object.assign(new PassThrough(), properties);
  const report = setupReporter(output);
  report({ step: 'kernel', title: 'Guest kernel', state: 'started' });
  report({ step: 'kernel', title: 'Guest kernel', state: 'done', detail: 'made', elapsedMs: 5 });
  return String(output.read());
}

test('a terminal gets colours and a line that is redrawn, whatever standard output is', () => {
  const text = reported({ isTTY: true, columns: 40, getColorDepth: () => 8 });
  assert.equal(
    text,
    `\r\x1b[2K  ${'Guest kernel'.padEnd(32)} …\r\x1b[2K\x1b[32m✔\x1b[39m ${'Guest kernel'.padEnd(32)} made (5 ms)\n`,
  );
});

test('what is no terminal gets plain lines', () => {
  assert.equal(reported({}), `✔ ${'Guest kernel'.padEnd(32)} made (5 ms)\n`);
});
