import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { parseExitStatus } from './exit-status.ts';

test('a normal exit keeps its code', () => {
  assert.deepEqual(parseExitStatus({ exitCode: 0, status: 'exit status 0' }), { exitCode: 0, signal: undefined });
  assert.deepEqual(parseExitStatus({ exitCode: 255, status: 'exit status 255' }), { exitCode: 255, signal: undefined });
});

test('a signal becomes 128 and its number, as a shell answers it', () => {
  const shell = (signal: string) => spawnSync('sh', ['-c', `sh -c 'kill -${signal} $$'; exit $?`]).status;
  for (const [words, name] of [
    ['killed', 'KILL'],
    ['terminated', 'TERM'],
    ['segmentation fault', 'SEGV'],
    ['segmentation fault (core dumped)', 'SEGV'],
    ['hangup', 'HUP'],
  ] as const) {
    assert.deepEqual(parseExitStatus({ exitCode: -1, status: `signal: ${words}` }), {
      exitCode: shell(name),
      signal: `SIG${name}`,
    });
  }
});

test('a signal without a name of its own is told by its number', () => {
  assert.deepEqual(parseExitStatus({ exitCode: -1, status: 'signal: signal 35' }), {
    exitCode: 163,
    signal: 'signal 35',
  });
});

test('an unknown end is no success', () => {
  assert.deepEqual(parseExitStatus({ exitCode: -1, status: '' }), { exitCode: 255, signal: undefined });
  assert.deepEqual(parseExitStatus({ exitCode: -1, status: 'signal: unheard of' }), {
    exitCode: 255,
    signal: 'unheard of',
  });
});
