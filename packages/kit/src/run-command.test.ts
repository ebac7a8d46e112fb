import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { CommandError, runCommand } from './run-command.ts';

test('a command answers its output', async () => {
  assert.deepEqual(await runCommand('sh', ['-c', 'cat; echo no >&2'], { input: 'in\n' }), {
    stdout: 'in\n',
    stderr: 'no\n',
  });
});

test('a command that fails says its exit code and its last words', async () => {
  await assert.rejects(runCommand('sh', ['-c', 'echo reason >&2; exit 3']), (error: unknown) => {
    assert.ok(error instanceof CommandError);
    assert.equal(error.exitCode, 3);
    assert.match(error.message, /exit code 3: reason/);
    return true;
  });
});

test('a command that is not there is a CommandError too', async () => {
  await assert.rejects(runCommand('/nonexistent/command', []), (error: unknown) => {
    assert.ok(error instanceof CommandError);
    assert.equal(error.exitCode, undefined);
    return true;
  });
});

test('an abort ends the command, also one that was aborted before it began', async () => {
  const controller = new AbortController();
  const running = runCommand('sleep', ['60'], { signal: controller.signal });
  controller.abort(new Error('enough'));
  await assert.rejects(running, (error: unknown) => error instanceof CommandError && error.cause instanceof Error);
  await assert.rejects(runCommand('sleep', ['60'], { signal: controller.signal }), CommandError);
});

test('an abort ends what the command has started as well', { timeout: 10_000 }, async () => {
  const controller = new AbortController();
  // The output stays open, and so the call waiting, for as long as a process of them lives.
  const running = runCommand('sh', ['-c', 'sleep 60 & echo started; wait'], {
    signal: controller.signal,
    onOutput: () => controller.abort(),
  });
  await assert.rejects(running, CommandError);
});

test('an interrupt typed at the terminal does not reach the command', async () => {
  const kit = JSON.stringify(import.meta.resolve('./run-command.ts'));
  const program = `import { runCommand } from ${kit};
    process.on('SIGINT', () => {});
    const onOutput = (text) => text === 'begun\\n' && process.kill(-process.pid, 'SIGINT');
    process.stdout.write((await runCommand('sh', ['-c', 'echo begun; sleep 0.2; echo ended'], { onOutput })).stdout);`;
  // The terminal sends the signal to all of the group that this process leads.
  const leader = spawn(process.execPath, ['--input-type=module', '-e', program], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  assert.equal(await text(leader.stdout), 'begun\nended\n');
});

test('a command that does not read its input is judged by its exit code alone', async () => {
  await runCommand('true', [], { input: 'x'.repeat(1 << 20) });
});

test('a long command is cut short in the message, so that the reason is seen', async () => {
  await assert.rejects(runCommand('sh', ['-c', 'echo reason >&2; exit 1', 'x'.repeat(5000)]), (error: unknown) => {
    assert.ok(error instanceof CommandError);
    assert.match(error.message, /^sh -c .{1,120}…: exit code 1: reason$/);
    assert.ok(error.command.length > 5000);
    return true;
  });
});
