import { type ChildProcess, spawn } from 'node:child_process';
import { type FileHandle, open } from 'node:fs/promises';
import { constants as osConstants } from 'node:os';
import type { Readable } from 'node:stream';
import { NestboxError } from '@nestbox/contract';
import { type ProcessIdentity, readProcessIdentity } from '@nestbox/kit';
import { endProcess } from './end-process.ts';
import { lastLines, readFileTail } from './file-tail.ts';
import { type Jail, jailCommand } from './jail/jail.ts';
import { jailerCommand } from './jail/jailer.ts';

export interface Launch {
  /** Program and arguments. */
  readonly command: readonly [string, ...string[]];
  /** What bounds the process; it is inside when the launch is done. */
  readonly cgroup: ProcessGroup | undefined;
  /** Name under /run/netns to run in. */
  readonly netnsName: string | undefined;
  /** Undefined: it runs as we do, and sees what we see. */
  readonly jail: Jail | undefined;
  /** Standard output and error are appended here. */
  readonly logPath: string;
  readonly env: Readonly<Record<string, string>>;
  /** Open file that the program gets as descriptor 3. */
  readonly inheritedFile?: number;
}

/** A cgroup, as far as a launch needs it. */
export interface ProcessGroup {
  /** Moves a process with all its threads inside. */
  admit(pid: number): Promise<void>;
}

export interface LaunchedProcess {
  /** Of the program itself, also when it is in a jail. */
  readonly identity: ProcessIdentity;
  /** Resolves when the process is gone; never rejects. */
  readonly exited: Promise<ProcessExit>;
}

export interface ProcessExit {
  readonly exitCode: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
}

/**
 * Starts a process in a session of its own that outlives us: no pipe to us, no controlling terminal, working folder `/`.
 * The event loop does not wait for it. Each step on the way (nsenter, bubblewrap, setpriv) is an exec, and arguments need no
 * quoting.
 *
 * The move into the cgroup goes on while the program begins, since the kernel takes some milliseconds for it; nothing of a
 * guest has run by then. When it fails the process is ended.
 *
 * Throws not_set_up when a program is missing, `internal` when it cannot be started in its place, with the reason.
 */
export async function launchDetached(launch: Launch): Promise<LaunchedProcess> {
  await using log = await open(launch.logPath, 'a', 0o600);
  const child = await spawnChain(launch, log);
  const exited = exitOf(child, launch.jail !== undefined);
  const outer = identityOf(child.pid);
  try {
    const [identity] = await Promise.all([
      launch.jail === undefined ? outer : jailedProcess(child, launch),
      launch.cgroup?.admit(outer.pid),
    ]);
    // One that had been forked when its parent moved did not move along.
    if (identity.pid !== outer.pid) await launch.cgroup?.admit(identity.pid);
    return { identity, exited };
  } catch (error) {
    await endProcess(outer, { graceMs: 0 });
    throw error;
  }
}

async function spawnChain(launch: Launch, log: FileHandle): Promise<ChildProcess & { readonly pid: number }> {
  const { jail, env, inheritedFile } = launch;
  const inherited = inheritedFile === undefined ? [] : [inheritedFile];
  const infoDescriptor = 3 + inherited.length;
  const [file = '', ...args] = chainOf(launch, infoDescriptor);
  const child = spawn(file, args, {
    detached: true,
    stdio: ['ignore', log.fd, log.fd, ...inherited, ...(jail === undefined ? [] : ['pipe' as const])],
    cwd: '/',
    // bubblewrap finds the way to it in ours; what it starts gets `env`.
    env: jail === undefined ? env : { PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin' },
  });
  const failed = new Promise<NodeJS.ErrnoException>((resolve) => child.once('error', resolve));
  child.unref();
  if (hasPid(child)) return child;
  // A spawn that fails has no pid, and says why in an event on the next turn.
  const cause = await failed;
  if (cause.code === 'ENOENT')
    throw new NestboxError('not_set_up', `The command ${file} is missing. Run: nestbox setup`, { cause });
  throw new NestboxError('internal', 'The VM manager could not be started.', { cause });
}

function chainOf({ command, netnsName, jail, env }: Launch, infoDescriptor: number): readonly string[] {
  // The jailer enters the network by itself, and gives no variables to what it starts.
  if (jail?.jailer !== undefined) return jailerCommand(jail, jail.jailer, { infoDescriptor, netnsName, command });
  const enterNetwork = netnsName === undefined ? [] : ['nsenter', `--net=/run/netns/${netnsName}`, '--'];
  return [...enterNetwork, ...(jail === undefined ? command : jailCommand(jail, infoDescriptor, env, command))];
}

function hasPid(child: ChildProcess): child is ChildProcess & { readonly pid: number } {
  return child.pid !== undefined;
}

/** The start time is that of the fork: it stays through every exec of the chain. */
function identityOf(pid: number): ProcessIdentity {
  return readProcessIdentity(pid) ?? { pid, startTicks: 0 };
}

const { signals } = osConstants;
/** How shells and bubblewrap say that a signal ended a program. */
const FIRST_SIGNAL_STATUS = 128;

function exitOf(child: ChildProcess, jailed: boolean): Promise<ProcessExit> {
  return new Promise((resolve) => {
    child.once('exit', (exitCode, signal) => {
      const number = jailed && exitCode !== null ? exitCode - FIRST_SIGNAL_STATUS : 0;
      if (number > 0) resolve({ exitCode: undefined, signal: signalOf(number) });
      else resolve({ exitCode: exitCode ?? undefined, signal: signal ?? undefined });
    });
  });
}

function signalOf(number: number): NodeJS.Signals | undefined {
  const names = Object.entries(signals).flatMap(([name, value]) => (value === number && isSignal(name) ? [name] : []));
  return names[0];
}

function isSignal(name: string): name is NodeJS.Signals {
  return Object.hasOwn(signals, name);
}

const LAST_WORDS_BYTES = 2048;

/**
 * What was started in the jail. The pipe ends without a word when that could not be made. bubblewrap writes on, so its pipe is read to
 * the end; that of a jailer's parent stays open.
 */
async function jailedProcess(child: ChildProcess, launch: Launch): Promise<ProcessIdentity> {
  let told = '';
  for await (const part of infoOf(child)) {
    told += String(part);
    if (launch.jail?.jailer !== undefined && told.includes('}')) break;
  }
  const pid = /"child-pid":\s*(\d+)/.exec(told)?.[1];
  if (pid !== undefined) return identityOf(Number(pid));
  const words = lastLines(await readFileTail(launch.logPath, LAST_WORDS_BYTES).catch(() => ''), 3);
  throw new NestboxError('internal', `The VM manager's jail could not be made: ${words}`);
}

function infoOf(child: ChildProcess): Readable {
  const info = child.stdio.at(-1);
  if (info === null || info === undefined || !('read' in info)) throw new TypeError('No pipe from the jail.');
  return info;
}
