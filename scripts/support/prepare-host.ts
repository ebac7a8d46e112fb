import { spawn } from 'node:child_process';
import { installedBin } from './repository.ts';

/**
 * Makes this machine able to boot VMs (`nestbox setup`), if we are root. False when that failed; the tests that need no VM
 * can run all the same, the others say why they do not.
 */
export async function prepareHost(): Promise<boolean> {
  if (process.getuid?.() !== 0) {
    console.log('Not root: the tests that boot VMs are skipped. To run them: sudo npm test');
    return true;
  }
  const exitCode = await new Promise<number | null>((resolve, reject) => {
    const child = spawn(installedBin('nestbox'), ['setup'], { stdio: ['ignore', 'inherit', 'inherit'] });
    child.once('error', reject);
    child.once('exit', resolve);
  });
  return exitCode === 0;
}
