import { randomBytes } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { Code } from '@connectrpc/connect';
import type { Logger } from '@nestbox/kit';
import { listDir, makeDir, readFile, remove, writeFile } from './files.ts';
import { DEFAULT_GUEST_USER, GuestConnection } from './guest-connection.ts';
import { GuestError, toGuestError } from './guest-error.ts';
import { fetchLogs } from './logs.ts';
import { readActivity, readMetrics } from './metrics.ts';
import { exec, type GuestCommand, killProcess } from './processes.ts';
import { checkHealth } from './readiness.ts';
import { callRest } from './rest-call.ts';
import { startTerminal } from './terminal.ts';

export interface WarmUpOptions {
  /** How often everything is asked. Default 10: then V8 has compiled what runs each time. */
  readonly rounds?: number;
  readonly logger: Logger;
}

const DEFAULT_ROUNDS = 10;
const HEALTH_TIMEOUT_MS = 10_000;
/** A command of ours that does not end by itself is killed. */
const COMMAND_TIMEOUT_MS = 60_000;
/** What is left behind is cleared away although the caller has given up. */
const CLEAN_UP_TIMEOUT_MS = 10_000;
const EXIT_NOT_FOUND = 127;
/** As the `e2b` client has it; then what is left where there is no bash. */
const SHELLS = [
  { cmd: '/bin/bash', command: ['-l', '-c'], interactive: ['-i', '-l'] },
  { cmd: '/bin/sh', command: ['-c'], interactive: ['-i'] },
] as const;

type Shell = (typeof SHELLS)[number];

/**
 * Serves what a first user would ask, several times over: a command through the shell, files, a watched folder, a
 * terminal, figures. So the guest agent's code is compiled, and its pages and the shell's are in memory, before a snapshot
 * is taken. Speaks as the `e2b` clients do, over connections of its own; leaves no process, file, watcher or connection.
 *
 * Without the user `user` it is root who asks, without a shell there is no command and no terminal; both are logged.
 * Throws GuestError.
 */
export async function warmUpGuest(guest: GuestConnection, options: WarmUpOptions, signal?: AbortSignal): Promise<void> {
  const { rounds = DEFAULT_ROUNDS, logger } = options;
  const client = new GuestConnection(
    { ...guest.endpoint, accessToken: guest.accessToken, port: guest.port },
    { encoding: 'json' },
  );
  const folder = `/tmp/.nestbox-warm-up-${randomBytes(8).toString('hex')}`;
  const undone = later(signal, CLEAN_UP_TIMEOUT_MS);
  try {
    const user = await findUser(client, logger, signal);
    await makeDir(client, folder, { user }, signal);
    const shell = await findShell(client, user, logger, signal);
    for (let round = 0; round < rounds; round++) {
      await doNothingByInit(client, signal);
      await checkHealth(client, HEALTH_TIMEOUT_MS, signal);
      if (shell !== undefined) await runCommand(client, shell, user, signal);
      await useFiles(client, folder, user, signal);
      await watchFolder(client, folder, user, signal);
      if (shell !== undefined) await useTerminal(client, shell, user, undone);
      await askForFigures(client, signal);
    }
  } finally {
    await remove(client, folder, {}, AbortSignal.timeout(CLEAN_UP_TIMEOUT_MS)).catch((err: unknown) =>
      logger.warn({ err, folder }, 'the folder of a warm-up could not be removed'),
    );
    client.close();
  }
}

async function findUser(client: GuestConnection, logger: Logger, signal?: AbortSignal): Promise<string> {
  try {
    await listDir(client, '/', { user: 'user' }, signal);
    return 'user';
  } catch (error) {
    if (!(error instanceof GuestError && error.rpcCode === Code.Unauthenticated)) throw error;
    logger.info('the template has no user `user`; it is warmed up as root');
    return DEFAULT_GUEST_USER;
  }
}

async function findShell(
  client: GuestConnection,
  user: string,
  logger: Logger,
  signal?: AbortSignal,
): Promise<Shell | undefined> {
  for (const shell of SHELLS) if ((await runCommand(client, shell, user, signal)) !== EXIT_NOT_FOUND) return shell;
  logger.info('the template has no shell; it is warmed up without commands');
  return undefined;
}

/** Returns the exit code: 127 when there is no such shell. */
async function runCommand(client: GuestConnection, shell: Shell, user: string, signal?: AbortSignal): Promise<number> {
  const command: GuestCommand = { cmd: shell.cmd, args: [...shell.command, 'echo warm'], user };
  return (await exec(client, { ...command, timeoutMs: COMMAND_TIMEOUT_MS }, signal)).exitCode;
}

async function useFiles(client: GuestConnection, folder: string, user: string, signal?: AbortSignal): Promise<void> {
  const path = `${folder}/note.txt`;
  await writeFile(client, path, 'a small file\n', { user }, signal);
  // The form in which the clients send files, beside multipart.
  const headers = { 'content-type': 'application/octet-stream' };
  const query = new URLSearchParams({ path, username: user });
  await callRest(client, { method: 'POST', path: `/files?${query}`, headers, body: 'again\n' }, [200], signal);
  await buffer(await readFile(client, path, { user }, signal));
  // And in which they ask for them.
  const packed = { 'accept-encoding': 'gzip, deflate' };
  await callRest(client, { method: 'GET', path: `/files?${query}`, headers: packed }, [200], signal);
  await listDir(client, folder, { user }, signal);
}

async function watchFolder(client: GuestConnection, folder: string, user: string, signal?: AbortSignal): Promise<void> {
  const leave = new AbortController();
  const combined = signal === undefined ? leave.signal : AbortSignal.any([signal, leave.signal]);
  try {
    const asked = { headers: client.headers(user), signal: combined };
    for await (const { event } of client.streamingFilesystem.watchDir({ path: folder }, asked)) {
      if (event.case === 'start') await writeFile(client, `${folder}/watched.txt`, '', { user }, signal);
      if (event.case === 'filesystem') return;
    }
  } catch (error) {
    throw toGuestError(error, `Watching ${folder}`, signal);
  } finally {
    leave.abort();
    await remove(client, `${folder}/watched.txt`, { user }, AbortSignal.timeout(CLEAN_UP_TIMEOUT_MS));
  }
}

/** Fires some time after `signal`: whoever gave up waits that long for what was begun, so that it can be undone. */
function later(signal: AbortSignal | undefined, ms: number): AbortSignal {
  const late = new AbortController();
  const wait = () => setTimeout(() => late.abort(signal?.reason), ms).unref();
  if (signal?.aborted === true) wait();
  else signal?.addEventListener('abort', wait, { once: true });
  return late.signal;
}

/**
 * Killed before it can do anything by itself, so that no shell writes a history. Not to be given up half-way: a terminal
 * whose start was not heard of could not be killed, and goes on when nobody listens to it.
 */
async function useTerminal(client: GuestConnection, shell: Shell, user: string, signal: AbortSignal): Promise<void> {
  const options = { cmd: shell.cmd, args: shell.interactive, env: { TERM: 'xterm-256color' }, user };
  const terminal = await startTerminal(client, { ...options, size: { cols: 80, rows: 24 } }, signal);
  try {
    await terminal.sendInput(Buffer.from('echo warm'));
  } finally {
    await killProcess(client, terminal.pid, AbortSignal.timeout(CLEAN_UP_TIMEOUT_MS));
  }
  for await (const event of terminal.events) if (event.kind === 'end') break;
}

/** What the host asks every few seconds as long as a sandbox runs. */
async function askForFigures(client: GuestConnection, signal?: AbortSignal): Promise<void> {
  await readMetrics(client, signal);
  await readActivity(client, signal);
  await fetchLogs(client, 'warm-up', { buffer: 'none', seq: 0 }, signal);
}

/** POST /init as the host sends it, but with a time before any other: the guest reads it, and changes nothing. */
async function doNothingByInit(client: GuestConnection, signal?: AbortSignal): Promise<void> {
  const body = JSON.stringify({ timestamp: '1970-01-01T00:00:00Z', accessToken: client.accessToken });
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  await callRest(client, { method: 'POST', path: '/init', headers, body }, [204], signal);
}
