import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { runInSandbox } from '../client/attended-command.ts';
import { ControlApi } from '../client/control-api.ts';
import { keepSandboxAlive } from '../client/sandbox-lease.ts';
import { asNotTheCommand } from '../failure.ts';
import { InterruptGuard } from '../interruption.ts';
import { collectKeyValue, parseSeconds } from '../option-values.ts';
import type { SetExitCode } from '../program.ts';
import { borrowServer } from '../server/borrowed-server.ts';

export interface RunOptions {
  readonly template: string;
  readonly env?: Record<string, string>;
  readonly user?: string;
  readonly cwd?: string;
  readonly timeout?: number;
  readonly internet: boolean;
  readonly json?: boolean;
}

export function addRun(program: Command, setExitCode: SetExitCode): void {
  program
    .command('run')
    .description('run one command in a sandbox of its own; its input, output and exit code pass through')
    .argument('<command...>', 'the command and its words, best behind --')
    .option('-t, --template <name>', 'template of the sandbox', 'base')
    .option('-e, --env <NAME=VALUE>', 'environment variable for the command (repeatable)', collectKeyValue)
    .option('-u, --user <name>', "user to run as (the template's default)")
    .option('-w, --cwd <dir>', "working directory (the user's home)")
    .option('--timeout <seconds>', 'kill the command after this time', parseSeconds)
    .option('--no-internet', 'give the sandbox no way to the internet')
    .option('--json', 'collect the output and print one JSON object at the end')
    .passThroughOptions()
    .action(async (command: string[], options: RunOptions) => {
      setExitCode(await asNotTheCommand(run(command, options)));
    });
}

/** Returns the exit code. Whatever happens, the sandbox does not outlive the call. */
async function run(command: readonly string[], options: RunOptions): Promise<number> {
  using guard = new InterruptGuard();
  await using server = await borrowServer(process.env, resolvePaths());
  guard.signal.throwIfAborted();
  const api = new ControlApi(server.endpoints);
  // Not aborted by a signal: an answer that nobody waits for would leave the sandbox behind.
  await using lease = await keepSandboxAlive(api, {
    templateId: options.template,
    allowInternetAccess: options.internet,
    metadata: { 'nestbox.made-by': 'nestbox run' },
  });
  guard.signal.throwIfAborted();
  const { sandbox } = lease;
  return await runInSandbox(
    server.endpoints,
    { sandboxId: sandbox.sandboxID, accessToken: sandbox.envdAccessToken, domain: sandbox.domain ?? undefined },
    command,
    options,
    guard.signal,
  );
}
