import { spawnSync } from 'node:child_process';
import { type RunningCommand, runCommand, type TerminalSize } from '../client/command-session.ts';
import type { ProcessClient } from '../client/guest-agent.ts';
import { standardStreams } from '../client/standard-streams.ts';

/** Without a terminal of our own (input from a pipe), the size that terminals have had since the VT100. */
const DEFAULT_SIZE: TerminalSize = { cols: 80, rows: 24 };

/**
 * A login shell on a terminal in the sandbox, connected to ours: keys go there raw, its size follows ours, and ours is as
 * it was when this returns or throws. Returns the shell's exit code.
 */
export async function runShell(client: ProcessClient, cwd: string | undefined, signal: AbortSignal): Promise<number> {
  const outputClosed = new AbortController();
  const streams = standardStreams((reason) => outputClosed.abort(reason));
  using cleanup = new DisposableStack();
  const { stdin, stdout } = process;
  if (stdin.isTTY) {
    stdin.setRawMode(true);
    cleanup.defer(() => stdin.setRawMode(false));
    // Node's raw mode leaves one thing on: the terminal turns LF into CR LF (ONLCR), as the one in the sandbox has done
    // already. Programs that move down by a bare LF would end up in the first column.
    spawnSync('stty', ['-opost'], { stdio: ['inherit', 'ignore', 'ignore'] });
    // A crash must not leave the user with a terminal that shows nothing of what is typed.
    const restore = () => stdin.setRawMode(false);
    process.once('exit', restore);
    cleanup.defer(() => process.off('exit', restore));
  }
  const { exitCode } = await runCommand(
    client,
    {
      file: '/bin/bash',
      args: ['-i', '-l'],
      envVars: { TERM: process.env.TERM ?? 'xterm-256color', LANG: 'C.UTF-8', LC_ALL: 'C.UTF-8' },
      cwd,
      timeoutMs: undefined,
      terminal: currentSize(),
    },
    streams,
    AbortSignal.any([signal, outputClosed.signal]),
    (command) => {
      const onResize = () => followSize(command);
      stdout.on('resize', onResize);
      cleanup.defer(() => stdout.off('resize', onResize));
    },
  );
  return exitCode;
}

function followSize(command: RunningCommand): void {
  // The shell may be gone already; a wrong size is no reason to end the session.
  command.resize(currentSize()).catch(() => {});
}

function currentSize(): TerminalSize {
  const { columns, rows } = process.stdout;
  return process.stdout.isTTY && columns > 0 && rows > 0 ? { cols: columns, rows } : DEFAULT_SIZE;
}
