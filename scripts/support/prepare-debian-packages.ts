import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';

/** What tests use of Debian, by the program that shows that it is there. */
const WANTED = [
  { program: '/usr/bin/chromium', packages: ['chromium'] },
  { program: '/usr/bin/jupyter-server', packages: ['jupyter-server', 'python3-ipykernel'] },
  { program: '/usr/lib/python3*/ensurepip', packages: ['python3-venv'] },
  { program: '/usr/lib/postgresql/*/bin/initdb', packages: ['postgresql'] },
] as const;

/** Installs what is missing, if we are root. Tests that lack something are skipped, and say so. */
export async function prepareDebianPackages(): Promise<void> {
  if (process.getuid?.() !== 0 || globSync('/usr/bin/apt-get').length === 0) return;
  const packages = WANTED.filter(({ program }) => globSync(program).length === 0).flatMap((wanted) => wanted.packages);
  if (packages.length === 0) return;
  console.log(`Installing ${packages.join(', ')} for the tests …`);
  const install = ['install', '--yes', '--no-install-recommends', ...packages];
  // The list of packages may be old, or not be there yet.
  if ((await apt(install)) || ((await apt(['update'])) && (await apt(install)))) return;
  console.log('They cannot be had: the tests that need them are skipped.');
}

function apt(args: readonly string[]): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn('apt-get', ['-qq', ...args], {
      stdio: 'ignore',
      // In runlevel 1 a package starts no server: the tests have their own.
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' },
    });
    child.once('error', () => resolve(false));
    child.once('exit', (exitCode) => resolve(exitCode === 0));
  });
}
