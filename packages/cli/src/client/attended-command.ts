import { NestboxError } from '@nestbox/contract';
import { EXIT } from '../exit-codes.ts';
import { CommandFailure } from '../failure.ts';
import { type CommandSpec, type RunningCommand, runCommand } from './command-session.ts';
import type { Endpoints } from './endpoints.ts';
import { connectToGuest, type GuestAddress } from './guest-agent.ts';
import { CollectedOutput, standardStreams } from './standard-streams.ts';

export interface AttendedOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly user?: string;
  readonly cwd?: string;
  /** Seconds. */
  readonly timeout?: number;
  readonly json?: boolean;
}

/**
 * Runs a command on this process's own standard streams, or with `json` collects its output and prints one object.
 * Returns the exit code that this process should end with.
 */
export async function runInSandbox(
  endpoints: Endpoints,
  guest: GuestAddress,
  [file = '', ...args]: readonly string[],
  options: AttendedOptions,
  signal: AbortSignal,
  onStart?: (command: RunningCommand) => void,
): Promise<number> {
  const begunMs = performance.now();
  const client = connectToGuest(endpoints, guest, options.user);
  const spec: CommandSpec = {
    file,
    args,
    envVars: options.env ?? {},
    cwd: options.cwd,
    timeoutMs: options.timeout === undefined ? undefined : options.timeout * 1000,
  };
  try {
    if (!options.json) {
      const outputClosed = new AbortController();
      const streams = standardStreams((reason) => outputClosed.abort(reason));
      const ended = await runCommand(client, spec, streams, AbortSignal.any([signal, outputClosed.signal]), onStart);
      return ended.exitCode;
    }
    const collected = new CollectedOutput();
    const ended = await runCommand(client, spec, collected.streams, signal, onStart);
    console.log(
      JSON.stringify({
        sandboxId: guest.sandboxId,
        exitCode: ended.exitCode,
        signal: ended.signal ?? null,
        stdout: collected.stdout,
        stderr: collected.stderr,
        durationMs: Math.round(performance.now() - begunMs),
      }),
    );
    return ended.exitCode;
  } catch (error) {
    if (error instanceof NestboxError && error.code === 'deadline_exceeded')
      throw new CommandFailure(EXIT.deadline, error);
    throw error;
  }
}
