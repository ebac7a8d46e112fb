import { type ChildProcess, spawn } from 'node:child_process';

export interface RunCommandOptions {
  /** Bytes for standard input; none means /dev/null. */
  readonly input?: string | Uint8Array;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Called with each piece of output as it comes, for progress. */
  readonly onOutput?: (text: string) => void;
  /** SIGTERM to the command and what it started when it is aborted, SIGKILL 2 s later. */
  readonly signal?: AbortSignal;
}

export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that did not exit with 0. `message` carries the end of its standard error. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly command: string;
  /** Undefined when a signal ended it or it never started. */
  readonly exitCode: number | undefined;
  readonly stderr: string;

  constructor(command: string, exitCode: number | undefined, stderr: string, options?: { cause?: unknown }) {
    const tail = stderr.trim().split('\n').slice(-5).join('\n');
    super(
      `${shortened(command)}: ${exitCode === undefined ? 'did not finish' : `exit code ${exitCode}`}${tail && `: ${tail}`}`,
      options,
    );
    this.command = command;
    this.exitCode = exitCode;
    this.stderr = stderr;
  }
}

/** What went wrong stands behind the command in a message, so a long one must not bury it. */
const SHOWN_COMMAND_CHARACTERS = 120;

function shortened(command: string): string {
  return command.length > SHOWN_COMMAND_CHARACTERS ? `${command.slice(0, SHOWN_COMMAND_CHARACTERS)}…` : command;
}

const KILL_GRACE_MS = 2000;

/**
 * Runs a command to its end and collects its output. Throws CommandError unless it exits with 0. It has a session of its own:
 * an interrupt typed at the terminal is for us alone, who may need the command's work for an orderly end.
 */
export function runCommand(
  file: string,
  args: readonly string[],
  options: RunCommandOptions = {},
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const command = [file, ...args].join(' ');
    if (options.signal?.aborted) {
      reject(new CommandError(command, undefined, '', { cause: options.signal.reason }));
      return;
    }
    const child = spawn(file, args, {
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      env: options.env,
      cwd: options.cwd,
      detached: true,
    });
    let killTimer: NodeJS.Timeout | undefined;
    const onAbort = () => {
      killGroup(child, 'SIGTERM');
      killTimer = setTimeout(() => killGroup(child, 'SIGKILL'), KILL_GRACE_MS);
    };
    options.signal?.addEventListener('abort', onAbort, { once: true });
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      options.onOutput?.(text);
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
      options.onOutput?.(text);
    });
    const settle = () => {
      clearTimeout(killTimer);
      options.signal?.removeEventListener('abort', onAbort);
    };
    child.once('error', (cause) => {
      settle();
      reject(new CommandError(command, undefined, cause.message, { cause }));
    });
    child.once('close', (exitCode) => {
      settle();
      if (exitCode === 0) resolve({ stdout, stderr });
      else reject(new CommandError(command, exitCode ?? undefined, stderr, { cause: options.signal?.reason }));
    });
    if (options.input !== undefined && child.stdin) {
      child.stdin.on('error', () => {
        // The command went away without reading everything; its exit code tells.
      });
      child.stdin.end(options.input);
    }
  });
}

/** The command leads a process group, which what it starts belongs to as well. */
function killGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
