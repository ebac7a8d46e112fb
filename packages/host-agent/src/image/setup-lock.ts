import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { NestboxError } from '@nestbox/contract';
import { toolEnvironment } from './tool-environment.ts';

/**
 * Takes the lock that lets one set-up run at a time for one state folder; throws `conflict` when another has it.
 * Node has no flock(2), so util-linux's flock holds it, for as long as the pipe from us to the program it runs is open:
 * when we end, in whatever way, the kernel closes the pipe, `cat` ends, and the lock is free. No lock is ever stale.
 */
export async function acquireSetupLock(path: string): Promise<AsyncDisposable> {
  // Own session: an interrupt typed at the terminal must not end the holder before us.
  const holder = spawn('flock', ['--nonblock', '--conflict-exit-code', '75', path, 'sh', '-c', 'echo held; exec cat'], {
    stdio: ['pipe', 'pipe', 'ignore'],
    env: toolEnvironment(),
    detached: true,
  });
  holder.stdin.on('error', () => {
    // The holder is gone already.
  });
  const closed = new Promise<number | null>((resolve, reject) => {
    holder.once('error', reject);
    holder.once('close', resolve);
  });
  const answer = await Promise.race([once(holder.stdout, 'data').then(() => 'held' as const), closed]).catch(
    (cause: unknown) => {
      throw new NestboxError('not_set_up', 'The program flock (package util-linux) could not be run.', { cause });
    },
  );
  if (answer === 'held') {
    return {
      async [Symbol.asyncDispose]() {
        holder.stdin.end();
        await closed;
      },
    };
  }
  if (answer === 75)
    throw new NestboxError('conflict', `Another set-up is running for this state folder (lock: ${path}). Wait for it.`);
  throw new NestboxError('internal', `The lock ${path} could not be taken (flock: exit code ${answer}).`);
}
