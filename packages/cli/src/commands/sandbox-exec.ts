import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { type AttendedOptions, runInSandbox } from '../client/attended-command.ts';
import type { RunningCommand } from '../client/command-session.ts';
import { requireServer } from '../client/endpoints.ts';
import { type LocateOptions, locateSandbox } from '../client/locate-sandbox.ts';
import { asNotTheCommand } from '../failure.ts';
import { InterruptGuard } from '../interruption.ts';
import { collectKeyValue, commandBehindSeparator, parseSeconds } from '../option-values.ts';
import type { SetExitCode } from '../program.ts';

type ExecOptions = AttendedOptions & LocateOptions;

export function addSandboxExec(sandbox: Command, setExitCode: SetExitCode): void {
  sandbox
    .command('exec')
    .description('run a command in a sandbox; its input, output and exit code pass through')
    .argument('<id>', 'sandbox id')
    .argument('<command...>', 'the command and its words, best behind --')
    .option('-e, --env <NAME=VALUE>', 'environment variable for the command (repeatable)', collectKeyValue)
    .option('-u, --user <name>', "user to run as (the template's default)")
    .option('-w, --cwd <dir>', "working directory (the user's home)")
    .option('--timeout <seconds>', 'kill the command after this time', parseSeconds)
    .option('--resume', 'resume the sandbox first when it is paused')
    .option('--json', 'collect the output and print one JSON object at the end')
    .passThroughOptions()
    .action(async (sandboxId: string, command: string[], options: ExecOptions) => {
      setExitCode(await asNotTheCommand(exec(sandboxId, commandBehindSeparator(command), options)));
    });
}

/** Returns the exit code. A signal to us becomes SIGTERM to the command. */
async function exec(sandboxId: string, command: readonly string[], options: ExecOptions): Promise<number> {
  using guard = new InterruptGuard();
  const endpoints = await requireServer(process.env, resolvePaths());
  const guest = await locateSandbox(endpoints, sandboxId, options, guard.signal);
  let running: RunningCommand | undefined;
  try {
    return await runInSandbox(endpoints, guest, command, options, guard.signal, (started) => {
      running = started;
    });
  } catch (error) {
    // The sandbox goes on, so the command must be told. When it cannot be, it has ended already.
    if (guard.signal.aborted) await running?.terminate().catch(() => {});
    throw error;
  }
}
