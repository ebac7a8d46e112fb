import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { EXIT } from '../exit-codes.ts';
import type { SetExitCode } from '../program.ts';
import { formatCheck } from '../terminal/check-report.ts';

export function addDoctor(program: Command, setExitCode: SetExitCode): void {
  program
    .command('doctor')
    .description('check every need of this machine: found or not, why it matters, how to mend it')
    .option('--vmm <name>', 'VM manager to look at', 'auto')
    .option('--json', 'print JSON')
    .action(async (options: { vmm: string; json?: boolean }) => {
      const { examineHost } = await import('../server/readiness.ts');
      const checks = await examineHost(resolvePaths(), options.vmm);
      const failed = checks.filter(({ state }) => state === 'failed').length;
      if (options.json) console.log(JSON.stringify({ ok: failed === 0, checks }));
      else {
        for (const check of checks) console.log(formatCheck(check));
        console.log(
          failed === 0 ? '\nThis machine can run sandboxes.' : `\n${failed} of ${checks.length} needs are not met.`,
        );
      }
      setExitCode(failed === 0 ? EXIT.ok : EXIT.failure);
    });
}
