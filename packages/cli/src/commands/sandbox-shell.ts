import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { requireServer } from '../client/endpoints.ts';
import { connectToGuest } from '../client/guest-agent.ts';
import { type LocateOptions, locateSandbox } from '../client/locate-sandbox.ts';
import { asNotTheCommand } from '../failure.ts';
import { InterruptGuard } from '../interruption.ts';
import type { SetExitCode } from '../program.ts';
import { runShell } from '../terminal/shell.ts';

interface ShellOptions extends LocateOptions {
  readonly user?: string;
  readonly cwd?: string;
  readonly json?: boolean;
}

export function addSandboxShell(sandbox: Command, setExitCode: SetExitCode): void {
  sandbox
    .command('shell')
    .description('open a terminal in a sandbox')
    .argument('<id>', 'sandbox id')
    .option('-u, --user <name>', "user to be (the template's default)")
    .option('-w, --cwd <dir>', "working directory (the user's home)")
    .option('--resume', 'resume the sandbox first when it is paused')
    .option('--json', 'print one JSON object after the session')
    .action(async (sandboxId: string, options: ShellOptions) => {
      const exitCode = await asNotTheCommand(shell(sandboxId, options));
      if (options.json) console.log(JSON.stringify({ sandboxId, exitCode }));
      setExitCode(exitCode);
    });
}

async function shell(sandboxId: string, options: ShellOptions): Promise<number> {
  using guard = new InterruptGuard();
  const endpoints = await requireServer(process.env, resolvePaths());
  const guest = await locateSandbox(endpoints, sandboxId, options, guard.signal);
  return await runShell(connectToGuest(endpoints, guest, options.user), options.cwd, guard.signal);
}
