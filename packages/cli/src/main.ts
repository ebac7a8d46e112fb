import { describeFailure, printFailure } from './failure.ts';
import { buildProgram } from './program.ts';

/** Runs one `nestbox` command to its end. `args` are the words behind the command's name. Returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const outcome = { exitCode: 0 };
  try {
    await buildProgram((exitCode) => {
      outcome.exitCode = exitCode;
    }).parseAsync([...args], { from: 'user' });
    return outcome.exitCode;
  } catch (error) {
    const failure = describeFailure(error);
    if (failure === undefined) return 0;
    printFailure(failure, wantsJson(args));
    return failure.exitCode;
  }
}

/** Asked of the plain words, since the parser itself may be what failed. Words behind `--` belong to somebody else. */
function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return args.slice(0, end === -1 ? undefined : end).includes('--json');
}
