import { Code } from '@connectrpc/connect';
import { Signal } from '@nestbox/contract/process';
import type { GuestConnection } from './guest-connection.ts';
import { GuestError, toGuestError } from './guest-error.ts';
import { type GuestProcessEvent, pumpProcessEvents } from './process-events.ts';

export interface GuestCommand {
  readonly cmd: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Default root. */
  readonly user?: string;
  /** The guest kills the process after this time. */
  readonly timeoutMs?: number;
}

export interface TerminalSize {
  readonly cols: number;
  readonly rows: number;
}

export interface ExecResult {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  /** -1 when a signal ended it. */
  readonly exitCode: number;
  readonly error: string | undefined;
}

/** The stream broke before the process ended; what had arrived is here. */
export class ExecInterruptedError extends GuestError {
  override readonly name = 'ExecInterruptedError';
  readonly stdout: Buffer;
  readonly stderr: Buffer;

  constructor(cause: GuestError, stdout: Buffer, stderr: Buffer) {
    super(cause.kind, cause.message, { cause });
    this.stdout = stdout;
    this.stderr = stderr;
  }
}

/** Starts a command without standard input and tells what it does. Throws GuestError. */
export function execStream(
  guest: GuestConnection,
  command: GuestCommand,
  signal?: AbortSignal,
): AsyncGenerator<GuestProcessEvent, void, undefined> {
  return startProcess(guest, command, { stdin: false }, signal);
}

/** The one way to start a process: with nothing on standard input, or on a terminal. */
export function startProcess(
  guest: GuestConnection,
  command: GuestCommand,
  attachment: { readonly stdin: false } | { readonly pty: { readonly size: TerminalSize } },
  signal?: AbortSignal,
): AsyncGenerator<GuestProcessEvent, void, undefined> {
  const process = {
    cmd: command.cmd,
    args: [...(command.args ?? [])],
    envs: { ...command.env },
    ...(command.cwd === undefined || command.cwd === '' ? {} : { cwd: command.cwd }),
  };
  const deadline = command.timeoutMs === undefined ? {} : { timeoutMs: command.timeoutMs };
  return pumpProcessEvents(
    (options) =>
      guest.streamingProcess.start(
        { process, ...attachment },
        { ...options, ...deadline, headers: guest.headers(command.user) },
      ),
    signal,
  );
}

/** Attaches to a running process: its events from now on. */
export function connectToProcess(
  guest: GuestConnection,
  pid: number,
  signal?: AbortSignal,
): AsyncGenerator<GuestProcessEvent, void, undefined> {
  return pumpProcessEvents(
    (options) =>
      guest.streamingProcess.connect(
        { process: { selector: { case: 'pid', value: pid } } },
        { ...options, headers: guest.headers() },
      ),
    signal,
  );
}

/** Runs a command to its end. Any exit code is a result; throws ExecInterruptedError when the end was not seen. */
export async function exec(guest: GuestConnection, command: GuestCommand, signal?: AbortSignal): Promise<ExecResult> {
  const stdout: Uint8Array[] = [];
  const stderr: Uint8Array[] = [];
  let end: Extract<GuestProcessEvent, { kind: 'end' }> | undefined;
  try {
    for await (const event of execStream(guest, command, signal)) {
      if (event.kind === 'stdout') stdout.push(event.data);
      else if (event.kind === 'stderr') stderr.push(event.data);
      else if (event.kind === 'end') end = event;
    }
    if (end === undefined) throw new GuestError('protocol', 'The process has no end.');
  } catch (error) {
    throw new ExecInterruptedError(
      toGuestError(error, `Running ${command.cmd}`, signal),
      Buffer.concat(stdout),
      Buffer.concat(stderr),
    );
  }
  return {
    stdout: Buffer.concat(stdout),
    stderr: Buffer.concat(stderr),
    exitCode: end.exitCode,
    error: end.error,
  };
}

/** SIGKILL. False when there is no such process any more. */
export async function killProcess(guest: GuestConnection, pid: number, signal?: AbortSignal): Promise<boolean> {
  try {
    await guest.unaryProcess.sendSignal(
      { process: { selector: { case: 'pid', value: pid } }, signal: Signal.SIGKILL },
      { headers: guest.headers(), ...(signal === undefined ? {} : { signal }) },
    );
    return true;
  } catch (error) {
    const known = toGuestError(error, `Killing process ${pid}`, signal);
    if (known.rpcCode === Code.NotFound) return false;
    throw known;
  }
}
