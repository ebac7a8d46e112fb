import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';

const START_TIMEOUT_MS = 60_000;

export interface ServerProgram {
  readonly file: string;
  readonly args: readonly string[];
  readonly cwd: string;
  /** What it prints when it listens, on either output; the first group is the port. */
  readonly announcement: RegExp;
}

/**
 * Starts somebody else's server, which ends with the test with all that it started, and answers the port that it says it
 * has: one that was chosen for it could be taken by then. Throws with what it printed when it ends or says nothing.
 */
export async function startServerProgram(t: TestContext, program: ServerProgram): Promise<number> {
  const { file, args, cwd, announcement } = program;
  const child = spawn(file, args, {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    env: { ...process.env, HOME: cwd, PYTHONUNBUFFERED: '1', NO_COLOR: '1' },
  });
  t.after(() => end(child));
  let printed = '';
  const port = Promise.withResolvers<number>();
  for (const output of [child.stdout, child.stderr])
    output.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
      const found = announcement.exec(printed)?.[1];
      if (found !== undefined) port.resolve(Number(found));
    });
  const told = (what: string) => port.reject(new Error(`${file} ${args.join(' ')}: ${what}. It printed:\n${printed}`));
  child.once('error', ({ message }) => told(message));
  child.once('close', (exitCode, signal) => told(`it ended with ${exitCode ?? signal}`));
  const timer = setTimeout(() => told(`it does not say that it listens, for ${START_TIMEOUT_MS} ms`), START_TIMEOUT_MS);
  try {
    return await port.promise;
  } finally {
    clearTimeout(timer);
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  process.kill(-child.pid, 'SIGKILL');
  await ended;
}
