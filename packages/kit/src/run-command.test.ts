import assert from 'node:assert/strict';
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
