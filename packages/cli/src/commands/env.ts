import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { requireServer } from '../client/endpoints.ts';
import { clientVariables, exportLines } from '../terminal/export-lines.ts';

export function addEnv(program: Command): void {
  program
    .command('env')
    .description('print what a shell needs to use the running server: eval "$(nestbox env)"')
    .option('--json', 'print JSON')
    .action(async (options: { json?: boolean }) => {
      const { apiUrl, sandboxUrl, apiKey, tls } = await requireServer(process.env, resolvePaths());
      const endpoints = { apiUrl, sandboxUrl, apiKey, tls };
      console.log(
        options.json
          ? JSON.stringify({ apiUrl, sandboxUrl, apiKey, ...(tls && { tls }), environment: clientVariables(endpoints) })
          : exportLines(endpoints),
      );
    });
}
