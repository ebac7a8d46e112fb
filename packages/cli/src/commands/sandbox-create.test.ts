import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runAgainstStub } from '../testing/run-against-stub.ts';
import { SANDBOX } from '../testing/wire-samples.ts';

const routes = { 'POST /sandboxes': { status: 201, body: SANDBOX } };

test('what becomes of a sandbox at its time-out is sent as it was asked for', async (t) => {
  const cases = [
    [[], [undefined, undefined, undefined]],
    [['--auto-pause'], [true, true, { enabled: false }]],
    [
      ['--auto-pause', '--auto-resume'],
      [true, true, { enabled: true }],
    ],
    [
      ['--auto-pause', '--no-memory'],
      [true, false, { enabled: false }],
    ],
  ] as const;
  for (const [words, expected] of cases) {
    const created = await runAgainstStub(t, routes, ['sandbox', 'create', ...words]);
    assert.deepEqual([created.exitCode, created.stdout], [0, 'i1\n']);
    const { autoPause, autoPauseMemory, autoResume } = Object(created.seen[0]?.json);
    assert.deepEqual([autoPause, autoPauseMemory, autoResume], expected);
  }
});

test('words that do not go together are refused before anything is asked', async (t) => {
  const nonsense = [['--auto-resume'], ['--no-memory'], ['--auto-pause', '--auto-resume', '--no-memory']];
  for (const words of nonsense) {
    const refused = await runAgainstStub(t, routes, ['sandbox', 'create', ...words]);
    assert.deepEqual([refused.exitCode, refused.seen.length], [2, 0], words.join(' '));
    assert.match(refused.stderr, /^nestbox: --.*\. \[usage\]\n$/);
  }
});
