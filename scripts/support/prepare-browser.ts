import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';

/** What tests at the edge use of Debian, by the program that shows that it is there. */
const WANTED = [
  { program: '/usr/bin/chromium', packages: ['chromium'] },
  { program: '/usr/bin/jupyter-server', packages: ['jupyter-server', 'python3-ipykernel'] },
] as const;

/** Installs what is missing of a browser and a Jupyter server, if we are root. Tests that lack one are skipped, and say so. */
export async function prepareBrowser(): Promise<void> {
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) return;
  const packages = WANTED.filter(({ program }) => !existsSync(program)).flatMap((wanted) => wanted.packages);
  if (packages.length === 0) return;
  console.log(`Installing ${packages.join(', ')} for the tests in a browser …`);
  const install = ['install', '--yes', '--no-install-recommends', ...packages];
  // The list of packages may be old, or not be there yet.
  if ((await apt(install)) || ((await apt(['update'])) && (await apt(install)))) return;
  console.log('They cannot be had: the tests that need them are skipped.');
}

function apt(args: readonly string[]): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn('apt-get', ['-qq', ...args], {
      stdio: 'ignore',
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    });
    child.once('error', () => resolve(false));
    child.once('exit', (exitCode) => resolve(exitCode === 0));
  });
}
