import { accessSync, chmodSync, constants, existsSync, mkdirSync, statSync, symlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { attempt } from '../attempt.ts';
import { SystemCallError } from '../system/libc.ts';
import { MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RELATIME, mount } from '../system/mount.ts';

interface KernelMount {
  readonly type: string;
  readonly target: string;
  readonly flags: number;
  /** Tried one after the other: older kernels refuse options they do not know. */
  readonly options: readonly string[];
}

const SECURE = MS_NOSUID | MS_NODEV | MS_NOEXEC;

/** In an order in which each mount point can exist. The initial RAM disk may have made some already. */
const MOUNTS: readonly KernelMount[] = [
  { type: 'proc', target: '/proc', flags: SECURE, options: [''] },
  { type: 'sysfs', target: '/sys', flags: SECURE, options: [''] },
  { type: 'devtmpfs', target: '/dev', flags: MS_NOSUID, options: ['mode=0755'] },
  {
    type: 'devpts',
    target: '/dev/pts',
    flags: MS_NOSUID | MS_NOEXEC,
    options: ['newinstance,ptmxmode=0666,mode=0620,gid=5'],
  },
  { type: 'tmpfs', target: '/dev/shm', flags: MS_NOSUID | MS_NODEV, options: ['mode=1777'] },
  { type: 'tmpfs', target: '/run', flags: MS_NOSUID | MS_NODEV, options: ['mode=0755'] },
  // favordynmods: moving a process into its group would wait for an RCU period without it, at each start of a command.
  {
    type: 'cgroup2',
    target: '/sys/fs/cgroup',
    flags: SECURE | MS_RELATIME,
    options: ['nsdelegate,favordynmods', 'nsdelegate', ''],
  },
];

/** What programs expect in /dev beside the devices themselves. */
const DEVICE_LINKS = [
  ['/dev/fd', '/proc/self/fd'],
  ['/dev/stdin', '/proc/self/fd/0'],
  ['/dev/stdout', '/proc/self/fd/1'],
  ['/dev/stderr', '/proc/self/fd/2'],
] as const;

/** Makes the file systems of the kernel available, in an empty root file system too. Can be repeated. */
export function mountKernelFilesystems(): void {
  for (const each of MOUNTS) attempt(`mounting ${each.target}`, () => mountOnce(each));
  attempt('mounting /tmp', provideTmp);
  for (const [link, target] of DEVICE_LINKS) {
    attempt(`linking ${link}`, () => {
      if (!existsSync(link)) symlinkSync(target, link);
    });
  }
}

function mountOnce({ type, target, flags, options }: KernelMount): void {
  mkdirSync(target, { recursive: true });
  if (isMountPoint(target)) return;
  for (const [index, option] of options.entries()) {
    try {
      mount(type, target, type, flags, option);
      return;
    } catch (error) {
      const code = error instanceof SystemCallError ? error.code : '';
      if (code === 'EBUSY') return;
      if (code !== 'EINVAL' || index === options.length - 1) throw error;
    }
  }
}

/**
 * /tmp stays on the root disk where that can be written: half of a small guest's memory is soon full of what package
 * managers unpack there, and the disk is what the template asked for. A read-only root gets one in memory.
 */
function provideTmp(): void {
  try {
    mkdirSync('/tmp', { recursive: true });
    accessSync('/tmp', constants.W_OK);
    chmodSync('/tmp', 0o1777);
  } catch {
    mountOnce({ type: 'tmpfs', target: '/tmp', flags: MS_NOSUID | MS_NODEV, options: ['mode=1777'] });
  }
}

function isMountPoint(path: string): boolean {
  return statSync(path).dev !== statSync(dirname(path)).dev;
}
