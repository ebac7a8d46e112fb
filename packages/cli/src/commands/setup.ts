import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { InterruptGuard } from '../interruption.ts';

export function addSetup(program: Command): void {
  program
    .command('setup')
    .description('make what this machine still lacks: Debian packages, guest kernel, agent disk, template base (root)')
    .option('--force', 'make everything anew')
    .option('--json', 'print each event as a line of JSON')
    .action(async (options: { force?: boolean; json?: boolean }) => {
      using guard = new InterruptGuard();
      const { setUpHost } = await import('../server/readiness.ts');
      const { setupReporter } = await import('../terminal/setup-reporter.ts');
      const report = options.json
        ? (event: unknown) => console.log(JSON.stringify(event))
        : setupReporter(process.stdout);
      await setUpHost(resolvePaths(), report, { force: options.force ?? false, signal: guard.signal });
    });
}
