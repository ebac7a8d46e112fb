import { randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { readProcessIdentity } from '@nestbox/kit';

/** A server by what no other process ever has: boot, PID namespace, pid and start time; several may be in one process. */
const FORM = /^([0-9a-f-]{36})\.(\d+)\.(\d+)\.(\d+)\.[0-9a-f]+$/;

/** Of a server that starts in this process: another one on its machine can tell by it that the process has died. */
export function newServerId(): string {
  const { pid, startTicks } = readProcessIdentity(process.pid) ?? { pid: process.pid, startTicks: 0 };
  return [...machineView(), pid, startTicks, randomBytes(8).toString('hex')].join('.');
}

/** False for a process that lives, or of which nothing can be known here: one of another machine, for example. */
export function isKnownDead(serverId: string): boolean {
  const [, bootId, namespace, pid, startTicks] = FORM.exec(serverId) ?? [];
  const [ownBootId, ownNamespace] = machineView();
  if (bootId !== ownBootId || namespace !== ownNamespace) return false;
  // /proc may hide the processes of other users, a signal does not.
  if (!isThere(Number(pid))) return true;
  const now = readProcessIdentity(Number(pid));
  return now !== undefined && now.startTicks !== Number(startTicks);
}

/** Processes that have the same see each other. */
function machineView(): readonly [bootId: string, namespace: string] {
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return [bootId, /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? ''];
}

function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return !(error instanceof Error && 'code' in error && error.code === 'ESRCH');
  }
}
