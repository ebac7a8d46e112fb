import { NestboxError } from '@nestbox/contract';
import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';
import { parseSeconds } from '../option-values.ts';

interface ResumeOptions {
  readonly reboot?: boolean;
  readonly timeout: number;
  readonly json?: boolean;
}

export function addSandboxResume(sandbox: Command): void {
  sandbox
    .command('resume')
    .description('let a paused sandbox go on; one that runs gets more time')
    .argument('<id>', 'sandbox id')
    .option('--reboot', 'boot it from its disk and forget its memory')
    .option('--timeout <seconds>', 'its time-out from now on (a running one keeps a later one)', parseSeconds, 300)
    .option('--json', 'print JSON')
    .action(async (sandboxId: string, options: ResumeOptions) => {
      using guard = new InterruptGuard();
      const api = new ControlApi(await requireServer(process.env, resolvePaths()));
      const { sandbox, resumed } = await api.connectSandbox(
        sandboxId,
        { timeoutSec: options.timeout, ...(options.reboot ? { memory: false } : {}) },
        guard.signal,
      );
      // Not rebooting is not what was asked for; a sandbox that runs when it should is.
      if (options.reboot && !resumed)
        throw new NestboxError(
          'sandbox_not_paused',
          `The sandbox ${sandbox.sandboxID} was running, so it was not rebooted. ` +
            `Pause it first: nestbox sandbox pause --no-memory ${sandbox.sandboxID}`,
        );
      if (options.json) console.log(JSON.stringify({ ...sandbox, resumed }));
      else {
        console.log(sandbox.sandboxID);
        if (!resumed) console.error('It was running already.');
      }
    });
}
