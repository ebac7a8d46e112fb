import { mkdir, open, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import { isProcessAlive, type ProcessIdentity, readProcessIdentity } from '@nestbox/kit';
import { errnoOf } from './errno.ts';

export interface StateLock extends AsyncDisposable {
  /** Gives the folder free for others. Repeating it is fine. */
  release(): Promise<void>;
}

const LOOKS = 8;
const LONGEST_PAUSE_MS = 40;

/**
 * Makes this process the only host agent of a state folder. `lockDir` holds one file for each process that has or wants
 * the folder, named by what no other process ever has: boot, pid and start time.
 *
 * Announce first, look second: nobody takes the folder who sees another live process's file after having made its own. Of
 * two rivals the one that announced later is sure to see the other, so never do both take it. Of rivals that see each
 * other the one with the smaller name stays announced, and the others step back, so one of them gets it.
 * A file whose process is dead means nothing, and anybody may remove it at any time without a race, since its name cannot
 * come back.
 *
 * Works for processes that see each other in /proc: one machine, one pid namespace.
 * Throws NestboxError state_dir_in_use, naming the process that has the folder.
 */
export async function acquireStateLock(lockDir: string): Promise<StateLock> {
  const self = await describeSelf();
  const own = join(lockDir, fileName(self));
  let announced = false;
  try {
    for (let look = 1; ; look++) {
      const rival = await findRival(lockDir, self);
      if (rival === undefined && announced) {
        announced = false;
        return lockOn(own, lockDir);
      }
      if (rival === undefined) {
        await announce(own, lockDir);
        announced = true;
        continue;
      }
      if (look >= LOOKS) throw inUse(lockDir, rival.pid);
      if (announced && fileName(rival) < fileName(self)) {
        await rm(own, { force: true });
        announced = false;
      }
      await delay(Math.random() * LONGEST_PAUSE_MS);
    }
  } finally {
    if (announced) await rm(own, { force: true });
  }
}

async function describeSelf(): Promise<Owner> {
  const identity = readProcessIdentity(process.pid);
  if (identity === undefined)
    throw new NestboxError('internal', 'This process cannot find itself in /proc. Is /proc mounted?');
  return { ...identity, bootId: (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim() };
}

async function announce(own: string, lockDir: string): Promise<void> {
  for (;;) {
    await mkdir(lockDir, { recursive: true, mode: 0o700 });
    try {
      await (await open(own, 'wx', 0o600)).close();
      return;
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') throw inUse(lockDir, process.pid);
      // Somebody who let go removed the empty folder in between.
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
  }
}

/** The live process with the smallest name that has a file here. Files of dead ones are removed on the way. */
async function findRival(lockDir: string, self: Owner): Promise<Owner | undefined> {
  let rival: Owner | undefined;
  for (const name of await namesIn(lockDir)) {
    const owner = parseFileName(name);
    if (owner === undefined || name === fileName(self)) continue;
    if (owner.bootId !== self.bootId || !isProcessAlive(owner)) await rm(join(lockDir, name), { force: true });
    else if (rival === undefined || name < fileName(rival)) rival = owner;
  }
  return rival;
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

function lockOn(own: string, lockDir: string): StateLock {
  const release = async () => {
    await rm(own, { force: true });
    await rmdir(lockDir).catch(() => {
      // Somebody else's file is in it already.
    });
  };
  return { release, [Symbol.asyncDispose]: release };
}

interface Owner extends ProcessIdentity {
  readonly bootId: string;
}

function fileName({ bootId, pid, startTicks }: Owner): string {
  return `${bootId}.${pid}.${startTicks}`;
}

function parseFileName(name: string): Owner | undefined {
  const [, bootId, pid, startTicks] = name.match(/^([0-9a-f-]{36})\.(\d+)\.(\d+)$/) ?? [];
  return bootId === undefined ? undefined : { bootId, pid: Number(pid), startTicks: Number(startTicks) };
}

function inUse(lockDir: string, pid: number): NestboxError {
  return new NestboxError(
    'state_dir_in_use',
    `Another Nestbox server (process ${pid}) uses this state folder (${lockDir}). Use that one, end it with "kill ${pid}", or set NESTBOX_DIR to another folder.`,
  );
}
