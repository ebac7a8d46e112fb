import { ENVD_VERSION, NESTBOX_VERSION } from '@nestbox/contract';
import type { Command } from 'commander';

export function addVersion(program: Command): void {
  program
    .command('version')
    .description('say which version this is')
    .option('--json', 'print JSON')
    .action((options: { json?: boolean }) => {
      const versions = { version: NESTBOX_VERSION, envd: ENVD_VERSION, node: process.versions.node };
      console.log(
        options.json
          ? JSON.stringify(versions)
          : `nestbox ${versions.version} (guest agent speaks envd ${versions.envd}; Node ${versions.node})`,
      );
    });
}
