import { styleText } from 'node:util';
import { type HostCheck, hostChecks } from '@nestbox/host-agent';
import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { EXIT } from '../exit-codes.ts';
import type { SetExitCode } from '../program.ts';

export function addDoctor(program: Command, setExitCode: SetExitCode): void {
  program
    .command('doctor')
    .description('check every need of this machine: found or not, why it matters, how to mend it')
    .option('--json', 'print JSON')
    .action(async (options: { json?: boolean }) => {
      setExitCode(EXIT.ok);
      void hostChecks;
      void styleText;
      void resolvePaths;
      void options;
      void ({} as HostCheck);
    });
}
