import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TimeoutError } from 'e2b';
import { forEachAddressing } from '../support/each-addressing.ts';

/** What a terminal has shown so far, and a way to wait for more of it. */
function screen() {
  let shown = '';
  let wake = () => {};
  return {
    onData(bytes: Uint8Array) {
      shown += Buffer.from(bytes).toString('utf8');
      wake();
    },
    async until(pattern: RegExp): Promise<RegExpExecArray> {
      for (;;) {
        const found = pattern.exec(shown);
        if (found !== null) return found;
        const { promise, resolve } = Promise.withResolvers<void>();
        wake = resolve;
        const timer = setTimeout(resolve, 30_000);
        const before = shown.length;
        await promise;
        clearTimeout(timer);
        if (shown.length === before) throw new Error(`${pattern} never came; the terminal shows: ${shown}`);
      }
    },
  };
}

const keys = (text: string) => new TextEncoder().encode(text);

forEachAddressing('terminals of the e2b client', { sandbox: {} }, (suite) => {
  test('a terminal takes keys, has the size it was given, and follows a resize', async () => {
    const { pty } = suite.sandbox;
    const shown = screen();
    const terminal = await pty.create({ cols: 100, rows: 30, onData: shown.onData, envs: { MARK: 'here' } });
    // The arithmetic tells what the shell answers from the echo of what was typed.
    await pty.sendInput(terminal.pid, keys('tty; stty size; echo $MARK-$((6*7)) $TERM $LANG\n'));
    await shown.until(/\/dev\/pts\/\d+\r\n30 100\r\nhere-42 xterm-256color C\.UTF-8\r\n/);
    await pty.resize(terminal.pid, { cols: 132, rows: 50 });
    await pty.sendInput(terminal.pid, keys('stty size\n'));
    await shown.until(/50 132\r\n/);
    await pty.sendInput(terminal.pid, keys('exit 5\n'));
    await assert.rejects(terminal.wait(), { exitCode: 5 });
  });

  test('Ctrl-C reaches the program in the terminal', async () => {
    const { pty } = suite.sandbox;
    const shown = screen();
    const terminal = await pty.create({ cols: 80, rows: 24, onData: shown.onData });
    await pty.sendInput(terminal.pid, keys('echo be$((1))gun; sleep 600\n'));
    await shown.until(/be1gun/);
    await pty.sendInput(terminal.pid, Uint8Array.of(3));
    await pty.sendInput(terminal.pid, keys('echo code-$?\n'));
    await shown.until(/code-130/);
    assert.equal(await pty.kill(terminal.pid), true);
    await assert.rejects(terminal.wait());
    assert.equal(await pty.kill(terminal.pid), false);
  });

  test('a terminal that was left can be joined again', async () => {
    const { pty } = suite.sandbox;
    const first = await pty.create({ cols: 80, rows: 24, onData: () => {}, user: 'root', cwd: '/usr' });
    await first.disconnect();
    const shown = screen();
    const second = await pty.connect(first.pid, { onData: shown.onData });
    await pty.sendInput(second.pid, keys('echo $(whoami)-in-$(pwd)\n'));
    await shown.until(/root-in-\/usr/);
    await pty.sendInput(second.pid, keys('exit\n'));
    assert.equal((await second.wait()).exitCode, 0);
  });

  // Waiting is the same in both.
  if (suite.addressing === 'domain') return;

  test('a terminal is listed with the commands, and ends when its time is over', async () => {
    const { pty, commands } = suite.sandbox;
    const terminal = await pty.create({ cols: 80, rows: 24, onData: () => {}, timeoutMs: 5000 });
    assert.ok((await commands.list()).some(({ pid }) => pid === terminal.pid));
    await assert.rejects(terminal.wait(), TimeoutError);
  });
});
