import { setImmediate } from 'node:timers/promises';
import { EXIT } from './exit-codes.ts';
import { describeFailure, describeLostOutput, type Failure, printFailure } from './failure.ts';
import { buildProgram } from './program.ts';

/** Runs one `nestbox` command to its end. `args` are the words behind the command's name. Returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const outcome = { exitCode: 0 };
  const outputFailure = watchOutput();
  try {
    await buildProgram((exitCode) => {
      outcome.exitCode = exitCode;
    }).parseAsync([...args], { from: 'user' });
  } catch (error) {
    return fail(describeFailure(error), args);
  }
  const failure = await outputFailure();
  return failure === undefined ? outcome.exitCode : fail(failure, args);
}

function fail(failure: Failure | undefined, args: readonly string[]): number {
  if (failure === undefined) return EXIT.ok;
  printFailure(failure, wantsJson(args));
  return failure.exitCode;
}

/** What goes through `console` is lost without a word when it cannot be written, on a full disk for example. */
function watchOutput(): () => Promise<Failure | undefined> {
  let cause: Error | undefined;
  process.stdout.on('error', (error: Error) => {
    cause ??= error;
  });
  return async () => {
    // The stream tells on a later turn of a write that failed.
    await setImmediate();
    return describeLostOutput(cause, EXIT.failure);
  };
}

/** Asked of the plain words, since the parser itself may be what failed. Words behind `--` belong to somebody else. */
function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return args.slice(0, end === -1 ? undefined : end).includes('--json');
}
