import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startTestAgent } from '../testing/test-agent.ts';
import { LogBuffer } from './log-buffer.ts';

const messages = (answer: ReturnType<LogBuffer['after']>) => answer.lines.map(({ message }) => message);

test('lines are told once to who says what it has, and again to who does not', () => {
  const logs = new LogBuffer(() => 'a');
  logs.add('info', 'one', {});
  logs.add('warn', 'two', { k: 'v' });
  const first = logs.after(null, 0, 'a');
  assert.deepEqual(messages(first), ['one', 'two']);
  assert.equal(first.next, 2);
  logs.add('info', 'three', {});
  assert.deepEqual(messages(logs.after(first.buffer, first.next, 'a')), ['three']);
  assert.deepEqual(messages(logs.after('of another life', first.next, 'a')), ['one', 'two', 'three']);
});

test('a copy of the guest does not tell what the original did', () => {
  let id = 'a';
  const logs = new LogBuffer(() => id);
  logs.add('info', 'of a', {});
  id = 'b';
  logs.add('info', 'of b', {});
  assert.deepEqual(messages(logs.after(null, 0, 'b')), ['of b']);
  assert.deepEqual(messages(logs.after(null, 0, 'a')), ['of a']);
});

test('a buffer that nobody fetches stays bounded, and one answer too', () => {
  const logs = new LogBuffer(() => 'a');
  const text = 'x'.repeat(1000);
  for (let line = 0; line < 5000; line++) logs.add('info', `${line} ${text}`, {});
  let { buffer, next, lines } = logs.after(null, 0, 'a');
  const seen = lines.map(({ seq }) => seq);
  while (lines.length > 0) {
    assert.ok(JSON.stringify(lines).length < 300_000);
    ({ buffer, next, lines } = logs.after(buffer, next, 'a'));
    seen.push(...lines.map(({ seq }) => seq));
  }
  assert.equal(seen.at(-1), 5000);
  assert.ok(seen.length > 300 && seen.length < 600, `${seen.length}`);
  assert.deepEqual(
    seen,
    Array.from({ length: seen.length }, (_, index) => 5000 - seen.length + 1 + index),
  );
});

test('the agent writes down the start, the output in bytes, and the end of a command', async () => {
  await using agent = await startTestAgent();
  agent.context.state.setInternalEnv('E2B_SANDBOX_ID', 'here');
  const stream = agent.client().start({ process: { cmd: '/bin/sh', args: ['-c', 'printf secret; exit 3'] } });
  for await (const _ of stream);
  const told = async () => (await fetch(`${agent.url}/logs?sandbox=here`)).json();
  const { lines } = (await told()) as ReturnType<LogBuffer['after']>;
  assert.deepEqual(
    lines.map(({ fields }) => fields.event_type),
    ['process_start', 'stdout', 'process_end'],
  );
  assert.equal(lines[0]?.fields.command, '/bin/sh -c printf secret; exit 3');
  assert.equal(lines[1]?.fields.data_bytes, '6');
  assert.match(lines[2]?.fields.process_result ?? '', /"exitCode":3/);
});
