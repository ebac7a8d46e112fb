import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { type ProcessIdentity, readProcessIdentity } from '@nestbox/kit';

export interface Launch {
  /** Program and arguments. */
  readonly command: readonly [string, ...string[]];
  /** `cgroup.procs` files; the process writes itself into each before it becomes the program, so nothing escapes the limits. */
  readonly cgroupProcsFiles: readonly string[];
  /** Name under /run/netns to run in. */
  readonly netnsName: string | undefined;
  /** Standard output and error are appended here. */
  readonly logPath: string;
  readonly env: Readonly<Record<string, string>>;
  /** Open file that the program gets as descriptor 3. */
  readonly inheritedFile?: number;
}

export interface LaunchedProcess {
  readonly identity: ProcessIdentity;
  /** Resolves when the process is gone; never rejects. */
  readonly exited: Promise<ProcessExit>;
}

export interface ProcessExit {
  readonly exitCode: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
}

/** Everything comes in as arguments, so nothing needs quoting; each step is an exec, so the pid stays the same. */
const ENTER_AND_EXEC = `
umask 077
while [ "$1" != -- ]; do
  echo $$ >"$1" || exit 125
  shift
done
shift
exec "$@"
`;

/**
 * Starts a process in a session of its own that outlives us: no pipe to us, no controlling terminal, working folder `/`.
 * The event loop does not wait for it. Throws `internal` when it cannot be started at all.
 */
export async function launchDetached(launch: Launch): Promise<LaunchedProcess> {
  const enterNetwork = launch.netnsName === undefined ? [] : ['nsenter', `--net=/run/netns/${launch.netnsName}`, '--'];
  const log = await open(launch.logPath, 'a', 0o600);
  try {
    const child = spawn(
      '/bin/sh',
      ['-c', ENTER_AND_EXEC, 'nestbox-vm', ...launch.cgroupProcsFiles, '--', ...enterNetwork, ...launch.command],
      {
        detached: true,
        stdio: ['ignore', log.fd, log.fd, ...(launch.inheritedFile === undefined ? [] : [launch.inheritedFile])],
        cwd: '/',
        env: launch.env,
      },
    );
    const exited = new Promise<ProcessExit>((resolve) => {
      child.once('exit', (exitCode, signal) =>
        resolve({ exitCode: exitCode ?? undefined, signal: signal ?? undefined }),
      );
    });
    const failed = new Promise<Error>((resolve) => child.once('error', resolve));
    // A spawn that fails has no pid, and says why in an event on the next turn.
    if (child.pid === undefined)
      throw new NestboxError('internal', 'The VM manager could not be started.', { cause: await failed });
    child.unref();
    // The start time is that of the fork: it stays through every exec of the chain.
    const identity = readProcessIdentity(child.pid) ?? { pid: child.pid, startTicks: 0 };
    return { identity, exited };
  } finally {
    await log.close();
  }
}
