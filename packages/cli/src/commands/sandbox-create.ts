import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';
import { collectKeyValue, parseSeconds } from '../option-values.ts';

interface CreateOptions {
  readonly template: string;
  readonly timeout: number;
  readonly env?: Record<string, string>;
  readonly metadata?: Record<string, string>;
  readonly internet: boolean;
  readonly json?: boolean;
}

export function addSandboxCreate(sandbox: Command): void {
  sandbox
    .command('create')
    .description('make a sandbox and print its id')
    .option('-t, --template <name>', 'template', 'base')
    .option('--timeout <seconds>', 'the sandbox ends by itself after this time', parseSeconds, 300)
    .option('-e, --env <NAME=VALUE>', 'environment variable of every command (repeatable)', collectKeyValue)
    .option('-m, --metadata <NAME=VALUE>', 'note of yours, to find it by (repeatable)', collectKeyValue)
    .option('--no-internet', 'give the sandbox no way to the internet')
    .option('--json', 'print JSON')
    .action(async (options: CreateOptions) => {
      using guard = new InterruptGuard();
      const created = await new ControlApi(await requireServer(process.env, resolvePaths())).createSandbox(
        {
          templateId: options.template,
          timeoutSec: options.timeout,
          envVars: options.env ?? {},
          metadata: options.metadata ?? {},
          allowInternetAccess: options.internet,
        },
        guard.signal,
      );
      console.log(options.json ? JSON.stringify(created) : created.sandboxID);
    });
}
