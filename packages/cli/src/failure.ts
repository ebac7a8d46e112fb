import { constants } from 'node:os';
import { NestboxError } from '@nestbox/contract';
import { CommanderError } from 'commander';
import { OutputClosed } from './client/standard-streams.ts';
import { EXIT } from './exit-codes.ts';
import { Interruption } from './interruption.ts';

const OUTPUT_CLOSED_EXIT_CODE = 128 + constants.signals.SIGPIPE;

/** What goes to standard error, and the code that the process exits with. */
export interface Failure {
  readonly code: string;
  readonly message: string;
  readonly exitCode: number;
}

/** The only place where errors become the words and the exit code of the command. Undefined: nothing failed (help was shown). */
export function describeFailure(error: unknown): Failure | undefined {
  // A clean-up failed after something else had: what came first is what the user asked about.
  if (error instanceof SuppressedError) return describeFailure(error.suppressed);
  const interruption = interruptionBehind(error);
  if (interruption !== undefined)
    return { code: 'interrupted', message: describe(error).message, exitCode: interruption.exitCode };
  if (error instanceof CommanderError) {
    // Help and version that the user asked for. Help shown because a sub-command is missing has exit code 1: wrong usage.
    if (error.exitCode === 0) return undefined;
    const message = error.code === 'commander.help' ? 'which command?' : error.message.replace(/^error: /, '');
    return { code: 'usage', message, exitCode: EXIT.usage };
  }
  if (error instanceof OutputClosed)
    return (
      describeLostOutput(error.cause, EXIT.notTheCommand) ?? {
        // As a program ends whose output nobody reads: without a word.
        code: 'output_closed',
        message: '',
        exitCode: OUTPUT_CLOSED_EXIT_CODE,
      }
    );
  if (error instanceof CommandFailure) return { ...describe(error.cause), exitCode: error.exitCode };
  return { ...describe(error), exitCode: EXIT.failure };
}

/** What is said of output that could not be written. Undefined: its reader went away, and has read enough. */
export function describeLostOutput(cause: unknown, exitCode: number): Failure | undefined {
  if (!(cause instanceof Error) || ('code' in cause && READER_GONE.includes(String(cause.code)))) return undefined;
  return { code: 'output_failed', message: `The output could not be written: ${cause.message}`, exitCode };
}

/** Of a pipe; of a socket. */
const READER_GONE = ['EPIPE', 'ECONNRESET'];

/** Gives an error an exit code of its own. */
export class CommandFailure extends Error {
  override readonly name = 'CommandFailure';
  readonly exitCode: number;

  constructor(exitCode: number, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.exitCode = exitCode;
  }
}

/** For commands that answer the exit code of somebody else's command: their own failures get a code that tells them apart. */
export async function asNotTheCommand<T>(running: Promise<T>): Promise<T> {
  try {
    return await running;
  } catch (error) {
    const known =
      error instanceof CommandFailure || interruptionBehind(error) !== undefined || error instanceof OutputClosed;
    throw known ? error : new CommandFailure(EXIT.notTheCommand, error);
  }
}

/** The user's signal, when that is why something did not come to its end. */
function interruptionBehind(error: unknown): Interruption | undefined {
  if (error instanceof Interruption) return error;
  return error instanceof NestboxError && error.cause instanceof Interruption ? error.cause : undefined;
}

function describe(error: unknown): Omit<Failure, 'exitCode'> {
  if (error instanceof Interruption) return { code: 'interrupted', message: error.message };
  if (error instanceof NestboxError && error.code !== 'internal') return { code: error.code, message: error.message };
  const detail = error instanceof NestboxError ? (error.cause ?? error) : error;
  // Not foreseen, so the user gets all that helps to report it.
  const words = detail instanceof Error ? (detail.stack ?? detail.message) : String(detail);
  return { code: 'internal', message: error instanceof NestboxError ? `${error.message}\n${words}` : words };
}

export function printFailure(failure: Failure, json: boolean): void {
  if (failure.message === '') return;
  const { code, message } = failure;
  process.stderr.write(json ? `${JSON.stringify({ error: { code, message } })}\n` : `nestbox: ${message} [${code}]\n`);
}
