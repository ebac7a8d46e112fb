import { basename, join } from 'node:path';
import { removeWithDrafts } from '../process/draft.ts';

const CONTROL_DIR = 'control';
const API_SOCKET = 'api.sock';

/** Files that Cloud Hypervisor and the driver share in a VM's run folder, which belongs to root. */
export function cloudHypervisorRunFiles(runDir: string) {
  return {
    /** The one folder of the run folder that it can make files in. Nothing in it is read by us, the socket excepted. */
    controlDir: join(runDir, CONTROL_DIR),
    apiSocket: join(runDir, CONTROL_DIR, API_SOCKET),
    /** What it says of itself: warnings and errors. */
    log: join(runDir, 'cloud-hypervisor.log'),
    /** What its event monitor tells, as JSON. */
    events: join(runDir, 'events'),
    /** An empty folder, see `interfaceJailPath`. */
    network: join(runDir, 'network'),
    /** Symbolic links, so that the files are found again from the run folder. */
    console: join(runDir, 'console'),
    ...draftLinks(runDir),
  } as const;
}

/** Links to files that live as long as the VM, or shorter. */
function draftLinks(runDir: string) {
  return {
    /** A folder: where it writes its state to. */
    snapshot: join(runDir, 'snapshot'),
    config: join(runDir, 'config'),
    state: join(runDir, 'state'),
    memory: join(runDir, 'memory'),
  } as const;
}

/** Where the files are inside of the jail, in every VM the same: a snapshot remembers the paths of its disks. */
export const JAIL_PATHS = {
  kernel: '/vm/kernel',
  initrd: '/vm/initrd',
  log: '/vm/log',
  snapshot: '/vm/snapshot',
  /** What is restored; the names in it are Cloud Hypervisor's. */
  restore: '/vm/restore',
} as const;

/** Of a disk, by its place in the machine. */
export function diskJailPath(index: number): string {
  return `/vm/disk${index}`;
}

/** By this Cloud Hypervisor sees that its TAP is there already. Else it would give it an address, for which it has no right. */
export function interfaceJailPath(tapName: string): string {
  return `/sys/class/net/${tapName}`;
}

/** Removes the files above and what the links of a VM's own lead to. What is gone is fine. */
export function removeRunFiles(runDir: string): Promise<void> {
  return removeWithDrafts(runDir, Object.values(draftLinks(runDir)), Object.values(cloudHypervisorRunFiles(runDir)));
}

/** The option that names the API socket. */
export function apiSocketArguments(runDir: string): readonly [string, string] {
  return ['--api-socket', `path=${cloudHypervisorRunFiles(runDir).apiSocket}`];
}

/** The run folder of a Cloud Hypervisor's command line; undefined for other programs, bubblewrap around it included. */
export function runDirOfCommandLine(words: readonly string[]): string | undefined {
  if (basename(words[0] ?? '') === 'bwrap') return undefined;
  const socket = words.includes('--api-socket') ? words[words.indexOf('--api-socket') + 1] : undefined;
  const end = `/${CONTROL_DIR}/${API_SOCKET}`;
  return socket?.startsWith('path=') && socket.endsWith(end) ? socket.slice('path='.length, -end.length) : undefined;
}
