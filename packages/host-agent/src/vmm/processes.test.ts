import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  findProcesses,
  listDescendants,
  parseNulTerminatedWords,
  readProcessState,
  readProcessWords,
  readSessionId,
} from './processes.ts';

test('words that the kernel wrote one after the other are read back, empty ones too', () => {
  const word = fc.string({ unit: 'grapheme' }).filter((text) => !text.includes('\0'));
  fc.assert(
    fc.property(fc.array(word), (words) => {
      assert.deepEqual(parseNulTerminatedWords(words.map((text) => `${text}\0`).join('')), words);
    }),
  );
  // A process that rewrote its own command line, as sshd and nginx do.
  assert.deepEqual(parseNulTerminatedWords('nginx: master process'), ['nginx: master process']);
});

test('a process is found by its command line and by its environment', async () => {
  const mark = `nestbox-test-${process.pid}-${Math.random()}`;
  const child = spawn('sleep', ['1000'], { argv0: mark, env: { MARK: mark }, stdio: 'ignore' });
  try {
    await once(child, 'spawn');
    const byCommand = await findProcesses('cmdline', (words) => words[0] === mark);
    assert.deepEqual(
      byCommand.map(({ identity }) => identity.pid),
      [child.pid],
    );
    assert.deepEqual(byCommand[0]?.words, [mark, '1000']);
    const byEnvironment = await findProcesses('environ', (words) => words.includes(`MARK=${mark}`));
    assert.deepEqual(
      byEnvironment.map(({ identity }) => identity),
      byCommand.map(({ identity }) => identity),
    );
  } finally {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  assert.deepEqual(await findProcesses('cmdline', (words) => words[0] === mark), []);
  assert.equal(await readProcessWords(child.pid ?? 0, 'cmdline'), undefined);
  assert.equal(readProcessState(child.pid ?? 0), undefined);
  assert.equal(readSessionId(child.pid ?? 0), undefined);
});

test('descendants are found at every depth, and nobody else’s', async () => {
  const child = spawn('sh', ['-c', 'sh -c "sleep 1000 & echo \\$!; wait" & echo $!; wait'], {
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
  });
  try {
    let output = '';
    for await (const text of child.stdout.setEncoding('utf8')) {
      output += text;
      if (output.trim().split('\n').length === 2) break;
    }
    const expected = output.trim().split('\n').map(Number);
    const found = (await listDescendants(child.pid ?? 0)).map(({ pid }) => pid);
    assert.deepEqual(new Set(found), new Set(expected));
  } finally {
    process.kill(-(child.pid ?? 0), 'SIGKILL');
  }
});
