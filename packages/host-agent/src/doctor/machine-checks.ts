import { readFile } from 'node:fs/promises';
import { arch, freemem, platform, release } from 'node:os';
import type { HostCheck } from './host-check.ts';

/** What kind of machine this is and whom we run as. */
export interface Machine {
  readonly platform: string;
  readonly arch: string;
  readonly release: string;
  readonly userId: number | undefined;
  /** Memory that new processes can have without swapping. */
  readonly availableMemoryBytes: number;
}

export async function readMachine(): Promise<Machine> {
  const meminfo = await readFile('/proc/meminfo', 'utf8').catch(() => '');
  return {
    platform: platform(),
    arch: arch(),
    release: release(),
    userId: process.geteuid?.(),
    availableMemoryBytes: parseAvailableMemory(meminfo) ?? freemem(),
  };
}

/** The kernel's own estimate (proc_meminfo(5), MemAvailable, in kB); undefined where there is none. */
export function parseAvailableMemory(meminfo: string): number | undefined {
  const [, kibibytes] = /^MemAvailable:\s+(\d+) kB$/m.exec(meminfo) ?? [];
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024;
}

/** Rules between the network of a sandbox and the host use what Linux 5.9 brought; so do the mounts of a VM. */
const OLDEST_LINUX = [5, 9] as const;

export function checkPlatform({ platform: system, arch: machine, release: version }: Machine): HostCheck {
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  const newEnough = major > OLDEST_LINUX[0] || (major === OLDEST_LINUX[0] && minor >= OLDEST_LINUX[1]);
  const fine = system === 'linux' && machine === 'x64' && newEnough;
  return {
    id: 'platform',
    name: 'Operating system',
    state: fine ? 'ok' : 'failed',
    found: `${system} ${version} on ${machine}`,
    why: 'Sandboxes are virtual machines that use the Linux kernel of an x86-64 host.',
    mend: fine ? undefined : `Use a machine with Linux ${OLDEST_LINUX.join('.')} or newer on x86-64.`,
  };
}

export function checkRoot({ userId }: Machine): HostCheck {
  const root = userId === 0;
  return {
    id: 'root',
    name: 'Root',
    state: root ? 'ok' : 'failed',
    found: root ? 'running as root' : `running as user ${userId ?? 'unknown'}`,
    why: 'Network namespaces, TAP devices, packet filter rules and limits of VMs are made by root alone.',
    mend: root ? undefined : 'Run the same command with sudo.',
  };
}

/** A sandbox of the template base, and the process around it. */
const WANTED_MEMORY_BYTES = 1.5 * 2 ** 30;

export function checkMemory({ availableMemoryBytes }: Machine): HostCheck {
  const enough = availableMemoryBytes >= WANTED_MEMORY_BYTES;
  return {
    id: 'memory',
    name: 'Free memory',
    state: enough ? 'ok' : 'warning',
    found: `${Math.floor(availableMemoryBytes / 2 ** 20)} MiB`,
    why: 'A sandbox of the template base may use 1024 MiB, and its virtual machine needs some more.',
    mend: enough
      ? undefined
      : `Free memory until ${WANTED_MEMORY_BYTES / 2 ** 20} MiB are available, or use smaller templates.`,
  };
}
