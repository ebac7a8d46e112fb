import { access, constants } from 'node:fs/promises';
import { delimiter, isAbsolute, join } from 'node:path';

/** A Debian package that Nestbox needs on the host. */
export interface RequiredPackage {
  readonly name: string;
  /** Programs to be found in PATH, and files by their absolute paths, that show that the package is there. */
  readonly needs: readonly [string, ...string[]];
  /** Part of a sentence: "needed to …". */
  readonly why: string;
  /** What it is needed for: running sandboxes, or only making the images in a set-up. */
  readonly use: 'run' | 'set-up';
}

const DEBIAN_KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Looked for by what they hold, not in a package manager's list: it may be another distribution, or built by hand. */
export const requiredPackages: readonly RequiredPackage[] = [
  { name: 'qemu-system-x86', needs: ['qemu-system-x86_64'], why: 'run the virtual machines', use: 'run' },
  { name: 'qemu-utils', needs: ['qemu-img'], why: "make each sandbox's disk on top of its template's", use: 'run' },
  { name: 'nftables', needs: ['nft'], why: "translate and filter the sandboxes' network traffic", use: 'run' },
  { name: 'bubblewrap', needs: ['bwrap'], why: 'shut each VM manager into a jail', use: 'run' },
  { name: 'iproute2', needs: ['ip'], why: 'make network namespaces and interfaces', use: 'run' },
  {
    name: 'util-linux',
    needs: ['flock', 'setpriv', 'unshare', 'nsenter'],
    why: 'start processes in namespaces of their own',
    use: 'run',
  },
  {
    name: 'e2fsprogs',
    needs: ['mke2fs', 'debugfs', 'e2fsck'],
    why: 'make disk images without mounting them',
    use: 'set-up',
  },
  { name: 'mmdebstrap', needs: ['mmdebstrap'], why: 'make the template base from Debian packages', use: 'set-up' },
  { name: 'debian-archive-keyring', needs: [DEBIAN_KEYRING], why: "verify Debian's signatures", use: 'set-up' },
  { name: 'apt', needs: ['apt-get', 'apt-cache'], why: 'fetch and verify the guest kernel', use: 'set-up' },
  { name: 'dpkg', needs: ['dpkg-deb'], why: "unpack the guest kernel's package", use: 'set-up' },
  { name: 'kmod', needs: ['depmod'], why: "index the guest kernel's modules", use: 'set-up' },
  { name: 'busybox-static', needs: ['/bin/busybox'], why: 'be the first program in a guest', use: 'set-up' },
  { name: 'lz4', needs: ['lz4'], why: 'unpack the guest kernel, which boots faster', use: 'set-up' },
  { name: 'xz-utils', needs: ['xz'], why: "unpack the guest kernel's modules", use: 'set-up' },
  { name: 'openssl', needs: ['openssl'], why: 'make certificates for nestbox up --tls auto', use: 'set-up' },
  { name: 'libc-bin', needs: ['ldd'], why: 'find the libraries that Node needs in a guest', use: 'set-up' },
];

/** Folders that the PATH of a user without root often lacks. */
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin'];

/** The path of a program, in the PATH or in a system folder; undefined when it is nowhere. */
export async function findProgram(name: string, env: NodeJS.ProcessEnv = process.env): Promise<string | undefined> {
  const folders = isAbsolute(name) ? [''] : [...(env.PATH ?? '').split(delimiter), ...SYSTEM_FOLDERS];
  for (const folder of folders) {
    const path = folder === '' ? name : join(folder, name);
    const mode = isAbsolute(name) ? constants.F_OK : constants.X_OK;
    const found = await access(path, mode).then(
      () => isAbsolute(path),
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}

export interface MissingPackage extends RequiredPackage {
  /** Those of `needs` that are not there. */
  readonly missing: readonly string[];
}

/** Which of the packages are not there, found out in a few milliseconds. */
export async function missingPackages(
  packages: readonly RequiredPackage[] = requiredPackages,
  env: NodeJS.ProcessEnv = process.env,
): Promise<MissingPackage[]> {
  const checked = await Promise.all(
    packages.map(async (wanted) => {
      const found = await Promise.all(wanted.needs.map((name) => findProgram(name, env)));
      return { ...wanted, missing: wanted.needs.filter((_, index) => found[index] === undefined) };
    }),
  );
  return checked.filter(({ missing }) => missing.length > 0);
}

/** The one line that a user runs to install packages. */
export function installLine(packages: readonly { readonly name: string }[]): string {
  return `sudo apt-get install --no-install-recommends ${packages.map(({ name }) => name).join(' ')}`;
}
