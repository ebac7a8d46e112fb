import { addAbortSignal, type Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { type ErrorCode, NestboxError } from '@nestbox/contract';
import { type ProcessEvent, type ProcessSelectorSchema, Signal } from '@nestbox/contract/process';
import { type ExitStatus, parseExitStatus } from './exit-status.ts';
import type { ProcessClient } from './guest-agent.ts';

export interface CommandSpec {
  readonly file: string;
  readonly args: readonly string[];
  readonly envVars: Readonly<Record<string, string>>;
  /** Undefined: the user's home. */
  readonly cwd: string | undefined;
  /** The guest agent kills the command when it is over. Undefined: no limit. */
  readonly timeoutMs: number | undefined;
  /** Given: the command gets a terminal of this size instead of pipes. */
  readonly terminal?: TerminalSize;
}

export interface TerminalSize {
  readonly cols: number;
  readonly rows: number;
}

/** Where the command's bytes come from and go to. Writing waits, so a slow reader slows the command. */
export interface CommandStreams {
  /** Destroyed when the command ends first. Undefined: the command reads from /dev/null. */
  readonly input: Readable | undefined;
  /** Also gets what a terminal shows. */
  writeOutput(bytes: Uint8Array): Promise<void>;
  writeError(bytes: Uint8Array): Promise<void>;
}

/** A command that runs, for those who want to do something to it meanwhile. */
export interface RunningCommand {
  readonly pid: number;
  resize(size: TerminalSize): Promise<void>;
  terminate(): Promise<void>;
}

/**
 * Runs a command in a sandbox to its end: input, output and errors pass through as bytes and in order.
 * Aborting ends the session, not the command.
 *
 * Throws NestboxError: deadline_exceeded (`timeoutMs` is over), unauthorized (no such user, wrong token), invalid_request
 * (no such working directory), sandbox_unreachable (the sandbox or the way to it is gone); and the abort's reason.
 */
export async function runCommand(
  client: ProcessClient,
  spec: CommandSpec,
  streams: CommandStreams,
  signal: AbortSignal,
  onStart?: (command: RunningCommand) => void,
): Promise<ExitStatus> {
  // Ends the feeding of input when the command ends first.
  const over = new AbortController();
  const stop = AbortSignal.any([signal, over.signal]);
  let feeding: Promise<void> = Promise.resolve();
  let status: ExitStatus | undefined;
  try {
    const events = client.start(
      {
        process: {
          cmd: spec.file,
          args: [...spec.args],
          envs: { ...spec.envVars },
          ...(spec.cwd === undefined ? {} : { cwd: spec.cwd }),
        },
        ...(spec.terminal === undefined ? {} : { pty: { size: spec.terminal } }),
        stdin: streams.input !== undefined,
      },
      { signal, ...(spec.timeoutMs === undefined ? {} : { timeoutMs: spec.timeoutMs }) },
    );
    for await (const { event } of events) {
      switch (event?.event.case) {
        case 'start': {
          const { pid } = event.event.value;
          if (streams.input !== undefined)
            feeding = feedInput(client, pid, streams.input, spec.terminal !== undefined, stop);
          onStart?.(runningCommand(client, pid));
          break;
        }
        case 'data':
          await deliver(event.event.value, streams);
          break;
        case 'end':
          // Read on to the end of the stream: leaving it here would leave its timer and connection behind.
          status = parseExitStatus(event.event.value);
          break;
        default:
        // Keep-alives, and events of a later version.
      }
    }
    if (status !== undefined) return status;
    throw new NestboxError('sandbox_unreachable', 'The connection to the sandbox ended before the command did.');
  } catch (error) {
    if (status !== undefined) return status;
    if (signal.aborted) throw signal.reason;
    throw fromGuestError(error);
  } finally {
    over.abort();
    await feeding;
  }
}

async function deliver(
  data: Extract<ProcessEvent['event'], { case: 'data' }>['value'],
  streams: CommandStreams,
): Promise<void> {
  const { output } = data;
  if (output.case === 'stdout' || output.case === 'pty') await streams.writeOutput(output.value);
  else if (output.case === 'stderr') await streams.writeError(output.value);
}

const END_OF_TEXT = Uint8Array.of(4);
/** How long a program at a terminal gets to take the end of its input before it is said again. */
const END_REPEAT_MS = 1000;

/** Sends input piece by piece, each after the one before has arrived. A command that no longer reads is no error. */
async function feedInput(
  client: ProcessClient,
  pid: number,
  input: Readable,
  terminal: boolean,
  signal: AbortSignal,
): Promise<void> {
  const process = select(pid);
  try {
    // Destroys the input when the command ends first, also while it has nothing to give.
    for await (const bytes of addAbortSignal(signal, input)) {
      const value = new Uint8Array(bytes);
      const piece = terminal ? { case: 'pty' as const, value } : { case: 'stdin' as const, value };
      await client.sendInput({ process, input: { input: piece } }, { signal });
    }
    if (signal.aborted) return;
    if (terminal) await endTerminalInput(client, pid, signal);
    else await client.closeStdin({ process }, { signal });
  } catch {
    // The command ended or closed its input; its exit code tells.
  }
}

/**
 * A terminal cannot be closed; what ends its input is the character Ctrl-D. One that arrives while the terminal changes
 * between line mode and a shell's own editing reads as NUL (n_tty in the kernel), so it is said until the command ends.
 */
async function endTerminalInput(client: ProcessClient, pid: number, signal: AbortSignal): Promise<void> {
  for (;;) {
    await client.sendInput({ process: select(pid), input: { input: { case: 'pty', value: END_OF_TEXT } } }, { signal });
    await delay(END_REPEAT_MS, undefined, { signal });
  }
}

function runningCommand(client: ProcessClient, pid: number): RunningCommand {
  const process = select(pid);
  return {
    pid,
    async resize(size) {
      await client.update({ process, pty: { size } });
    },
    async terminate() {
      await client.sendSignal({ process, signal: Signal.SIGTERM });
    },
  };
}

function select(pid: number): MessageInitShape<typeof ProcessSelectorSchema> {
  return { selector: { case: 'pid', value: pid } };
}

const GUEST_ERROR_CODES: Partial<Record<Code, ErrorCode>> = {
  [Code.DeadlineExceeded]: 'deadline_exceeded',
  [Code.Unauthenticated]: 'unauthorized',
  [Code.InvalidArgument]: 'invalid_request',
  [Code.NotFound]: 'not_found',
};

function fromGuestError(error: unknown): NestboxError {
  if (error instanceof NestboxError) return error;
  const known = ConnectError.from(error);
  const code = GUEST_ERROR_CODES[known.code] ?? 'sandbox_unreachable';
  const message =
    code === 'deadline_exceeded'
      ? 'The time for the command is over; it was killed.'
      : code === 'sandbox_unreachable'
        ? `The sandbox cannot be reached: ${known.rawMessage}.`
        : known.rawMessage;
  return new NestboxError(code, message, { cause: error });
}
