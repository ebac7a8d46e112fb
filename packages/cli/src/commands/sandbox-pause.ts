import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { ControlApi } from '../client/control-api.ts';
import { requireServer } from '../client/endpoints.ts';
import { InterruptGuard } from '../interruption.ts';

export function addSandboxPause(sandbox: Command): void {
  sandbox
    .command('pause')
    .description('write a sandbox to disk and free its memory; it goes on where it was when it is resumed')
    .argument('<id>', 'sandbox id')
    .option('--no-memory', 'keep the disk alone; a resume boots from it')
    .option('--json', 'print JSON')
    .action(async (sandboxId: string, options: { memory: boolean; json?: boolean }) => {
      using guard = new InterruptGuard();
      const api = new ControlApi(await requireServer(process.env, resolvePaths()));
      await api.pauseSandbox(sandboxId, { memory: options.memory }, guard.signal);
      console.log(options.json ? JSON.stringify({ paused: sandboxId, memory: options.memory }) : sandboxId);
    });
}
