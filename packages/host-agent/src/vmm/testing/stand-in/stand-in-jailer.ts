/**
 * Stands in for Firecracker's jailer where that is not installed: NOT the jailer. It has its command line and does what its page
 * documents (docs/jailer.md of Firecracker, "Jailer Operation"), by the same system calls: copies the program, enters the network namespace,
 * pivots into the chroot, makes the device nodes, gives the folders to the user, drops root and becomes the program.
 */
import { chmodSync, chownSync, copyFileSync, mkdirSync, openSync, realpathSync, rmdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import koffi from 'koffi';

/** From Linux, include/uapi/linux/{sched,mount}.h and sys/stat.h. */
const CLONE_NEWNS = 0x2_00_00;
const CLONE_NEWNET = 0x40_00_00_00;
const MS_BIND = 4096;
const MS_REC = 16_384;
const MS_SLAVE = 1 << 19;
const MNT_DETACH = 2;
const S_IFCHR = 0o020_000;
const SYS_PIVOT_ROOT = 155;
const DEVICES = [
  ['/dev/net/tun', 10, 200],
  ['/dev/kvm', 10, 232],
] as const;
const FOLDERS = ['/', '/dev', '/dev/net', '/run'];

const [version = '', ...args] = process.argv.slice(2);
if (args.includes('--version')) {
  process.stdout.write(`Jailer v${version}\n`);
  process.exit(0);
}
const split = args.indexOf('--');
const { values } = parseArgs({
  args: split < 0 ? args : args.slice(0, split),
  options: {
    id: { type: 'string' },
    'exec-file': { type: 'string' },
    uid: { type: 'string' },
    gid: { type: 'string' },
    'chroot-base-dir': { type: 'string', default: '/srv/jailer' },
    netns: { type: 'string' },
  },
});
const extra = split < 0 ? [] : args.slice(split + 1);

function refuse(words: string): never {
  process.stderr.write(`stand-in for jailer: ${words}\n`);
  process.exit(1);
}

const { id = '' } = values;
if (!/^[a-zA-Z0-9-]{1,64}$/.test(id)) refuse(`Invalid instance ID: ${id}`);
const execFile = realpathSync(values['exec-file'] ?? '');
const name = basename(execFile);
if (!name.includes('firecracker')) refuse(`Invalid filename. It must contain "firecracker": ${name}`);
const [uid, gid] = [Number(values.uid), Number(values.gid)];
if (!statSync(values['chroot-base-dir']).isDirectory()) refuse('The base of the chroot is no folder.');

const libc = koffi.load('libc.so.6');
const calls = {
  unshare: libc.func('int unshare(int)'),
  setns: libc.func('int setns(int, int)'),
  mount: libc.func('int mount(const char *, const char *, const char *, unsigned long, const char *)'),
  umount2: libc.func('int umount2(const char *, int)'),
  chroot: libc.func('int chroot(const char *)'),
  mknod: libc.func('int mknod(const char *, unsigned int, unsigned long)'),
  syscall: libc.func('long syscall(long, const char *, const char *)'),
} as const;

function call(what: keyof typeof calls, ...params: readonly (string | number | null)[]): void {
  if (calls[what](...params) !== 0) refuse(`${what}(${params.join(', ')}) failed with errno ${koffi.errno()}`);
}

const root = join(realpathSync(values['chroot-base-dir']), name, id, 'root');
mkdirSync(root, { recursive: true });
copyFileSync(execFile, join(root, name));
if (values.netns !== undefined) call('setns', openSync(values.netns, 'r'), CLONE_NEWNET);
call('unshare', CLONE_NEWNS);
call('mount', null, '/', null, MS_SLAVE | MS_REC, null);
call('mount', root, root, null, MS_BIND | MS_REC, null);
process.chdir(root);
mkdirSync('old_root', { mode: 0o600 });
call('syscall', SYS_PIVOT_ROOT, '.', 'old_root');
process.chdir('/');
call('umount2', 'old_root', MNT_DETACH);
rmdirSync('old_root');
call('chroot', '.');
for (const folder of FOLDERS) {
  mkdirSync(folder, { recursive: true });
  chmodSync(folder, 0o700);
  chownSync(folder, uid, gid);
}
for (const [path, major, minor] of DEVICES) {
  call('mknod', path, S_IFCHR | 0o600, (major << 8) | minor);
  chownSync(path, uid, gid);
}
process.setgroups?.([]);
process.setgid?.(gid);
process.setuid?.(uid);
if (process.execve === undefined) refuse('This Node cannot become another program.');
process.execve(`/${name}`, [`/${name}`, '--id', id, '--start-time-us', '0', '--start-time-cpu-us', '0', ...extra], {});
