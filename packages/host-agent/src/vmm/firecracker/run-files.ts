import { basename, join } from 'node:path';
import { removeWithDrafts } from '../process/draft.ts';
import { driveId } from './firecracker-calls.ts';

const CONTROL_DIR = 'control';
const API_SOCKET = 'api.sock';

/** Files that Firecracker and the driver share in a VM's run folder, which belongs to root. */
export function firecrackerRunFiles(runDir: string) {
  return {
    /** The only folder that Firecracker can make files in. Nothing in it is read by us, the socket excepted. */
    controlDir: join(runDir, CONTROL_DIR),
    apiSocket: join(runDir, CONTROL_DIR, API_SOCKET),
    /** An empty folder: where the jailer builds, unseen from outside. */
    jailBase: join(runDir, 'jail'),
    /** What its logger writes. */
    log: join(runDir, 'firecracker.log'),
    /** A line of JSON a minute. */
    metrics: join(runDir, 'metrics'),
    /** Symbolic links, so that the files are found again from the run folder. */
    console: join(runDir, 'console'),
    ...draftLinks(runDir),
  } as const;
}

/** Links to files that live as long as the VM, or shorter. */
function draftLinks(runDir: string) {
  return {
    changes: join(runDir, 'changes'),
    devices: join(runDir, 'devices'),
    memory: join(runDir, 'memory'),
  } as const;
}

/** Where the files are inside of the jail, in every VM the same: a snapshot remembers the paths of its disks. */
export const JAIL_PATHS = {
  kernel: '/vm/kernel',
  initrd: '/vm/initrd',
  log: '/vm/log',
  metrics: '/vm/metrics',
  changes: '/vm/changes',
  devices: '/vm/devices',
  memory: '/vm/memory',
  state: '/vm/state',
} as const;

/** Of a disk, by its place in the machine. */
export function diskJailPath(index: number): string {
  return `/vm/${driveId(index)}`;
}

/** Removes the files above and what the links of a VM's own lead to. What is gone is fine. */
export function removeRunFiles(runDir: string): Promise<void> {
  return removeWithDrafts(runDir, Object.values(draftLinks(runDir)), Object.values(firecrackerRunFiles(runDir)));
}

/** What stays outside of a jail as Firecracker's parent. */
const PARENTS = ['bwrap', 'sh'];

/** The run folder of a Firecracker's command line; undefined for other programs, its parent included. */
export function runDirOfCommandLine(words: readonly string[]): string | undefined {
  if (PARENTS.includes(basename(words[0] ?? ''))) return undefined;
  const socket = words[words.indexOf('--api-sock') + 1];
  const end = `/${CONTROL_DIR}/${API_SOCKET}`;
  return words.includes('--api-sock') && socket?.endsWith(end) ? socket.slice(0, -end.length) : undefined;
}
