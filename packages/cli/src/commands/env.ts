import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { requireServer } from '../client/endpoints.ts';
import { exportLines } from '../terminal/export-lines.ts';

export function addEnv(program: Command): void {
  program
    .command('env')
    .description('print what a shell needs to use the running server: eval "$(nestbox env)"')
    .option('--json', 'print JSON')
    .action(async (options: { json?: boolean }) => {
      const { apiUrl, sandboxUrl, apiKey } = await requireServer(process.env, resolvePaths());
      console.log(
        options.json ? JSON.stringify({ apiUrl, sandboxUrl, apiKey }) : exportLines({ apiUrl, sandboxUrl, apiKey }),
      );
    });
}
