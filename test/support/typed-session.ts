import { type ChildProcess, spawn } from 'node:child_process';

/** What to do when the screen has shown what, in this order. */
export type TypedAnswer = readonly [shown: RegExp, keys: string];

/**
 * Runs a command in a terminal of this machine (by `script`, of Debian's bsdutils), 100 columns wide and 30 rows high, and
 * types. Returns all that was shown, and the exit code.
 */
export async function typeInto(
  command: readonly string[],
  env: NodeJS.ProcessEnv,
  answers: readonly TypedAnswer[],
): Promise<{ readonly shown: string; readonly exitCode: number | null }> {
  // Without a terminal behind it `script` gives none a size.
  const line = `stty cols 100 rows 30; exec ${command.map((word) => `'${word}'`).join(' ')}`;
  const child = spawn('script', ['--quiet', '--return', '--command', line, '/dev/null'], {
    env: { ...env, SHELL: '/bin/sh', TERM: 'dumb' },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const left = [...answers];
  let shown = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    shown += text;
    for (let next = left[0]; next?.[0].test(shown); next = left[0]) {
      child.stdin.write(next[1]);
      left.shift();
    }
  });
  const exitCode = await ended(child, () => shown);
  if (left.length > 0) throw new Error(`${left[0]?.[0]} never came; the terminal shows: ${shown}`);
  return { shown, exitCode };
}

function ended(child: ChildProcess, shown: () => string): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill();
      reject(new Error(`it did not end; the terminal shows: ${shown()}`));
    }, 60_000);
    child.once('error', reject);
    child.once('close', (exitCode) => {
      clearTimeout(timer);
      resolve(exitCode);
    });
  });
}
