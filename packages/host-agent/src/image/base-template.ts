import { chmod, cp, mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GUEST_NETWORK } from '@nestbox/contract';
import type { TemplateFile } from '../storage/images-file.ts';
import { type AptOptions, aptEnvironment, withFreshIndexes } from './apt.ts';
import { runContained } from './contained-command.ts';
import { debianSources } from './debian-sources.ts';
import { type MakeTemplateOptions, makeTemplate, type TemplateSpec } from './make-template.ts';
import { runTool } from './run-tool.ts';

/** The same on every installation, so that a sandbox's record means the same after a move to another machine. */
export const BASE_TEMPLATE_ID = 'nestboxbase0debian12';

const BASE_TEMPLATE: TemplateSpec = {
  templateId: BASE_TEMPLATE_ID,
  names: ['base'],
  vcpuCount: 2,
  memoryMib: 1024,
  diskMib: 10_240,
  defaultUser: 'user',
  defaultWorkdir: '/home/user',
  envVars: { LANG: 'C.UTF-8' },
};

const SUITE = 'bookworm';

/**
 * On top of Debian's essential packages and apt. python3-pip refuses to install outside a virtual environment, as
 * Debian means it to (PEP 668; `pip install --break-system-packages` or `python3 -m venv`).
 */
const PACKAGES = [
  ...['ca-certificates', 'curl', 'git', 'openssh-client', 'wget'],
  ...['python3', 'python3-pip', 'python3-venv'],
  ...['file', 'less', 'nano', 'patch', 'unzip', 'xz-utils', 'zip'],
  ...['iproute2', 'iputils-ping', 'kmod', 'netbase', 'procps', 'psmisc', 'sudo'],
];

/**
 * No manuals, documentation and translations: a third of the size and of the time. It stays in force in the guest, as
 * in Debian's own slim images. Licences stay.
 */
const DPKG_EXCLUDES = [
  'path-exclude=/usr/share/man/*',
  'path-exclude=/usr/share/info/*',
  'path-exclude=/usr/share/doc/*',
  'path-include=/usr/share/doc/*/copyright',
  'path-exclude=/usr/share/locale/*',
];

export interface BaseTemplateOptions extends Omit<MakeTemplateOptions, 'spec' | 'tree'> {
  /** Node for users' programs, copied to /usr/local/bin. */
  readonly nodePath: string;
  /** Folder of the npm package with the packages it brings along. */
  readonly npmDir: string;
  readonly onDetail: (detail: string) => void;
}

/** Makes the template `base`: Debian 12 with Python, Node, Git and a user with sudo. Needs root and Debian's mirror. */
export async function makeBaseTemplate(options: BaseTemplateOptions): Promise<TemplateFile> {
  const { workDir, nodePath, npmDir, onDetail, signal } = options;
  const tree = join(workDir, 'base');
  await debootstrap(tree, { onOutput: mmdebstrapProgress(onDetail), ...(signal && { signal }) });
  onDetail('adding node and npm');
  await addNode(tree, nodePath, npmDir);
  await makeNeutral(tree);
  onDetail('writing the disk image');
  return makeTemplate({ ...options, tree, spec: BASE_TEMPLATE });
}

async function debootstrap(tree: string, options: AptOptions): Promise<void> {
  const attempt = async () => {
    await rm(tree, { recursive: true, force: true });
    await runContained(
      'mmdebstrap',
      [
        ...['--mode=root', '--format=directory', '--variant=minbase', '--architectures=amd64'],
        '--keyring=/usr/share/keyrings/debian-archive-keyring.gpg',
        `--include=${PACKAGES.join(',')}`,
        ...DPKG_EXCLUDES.map((option) => `--dpkgopt=${option}`),
        // The tree is thrown away if we do not come to its end, so dpkg need not wait for the disk after each file.
        '--dpkgopt=force-unsafe-io',
        '--customize-hook=chroot "$1" useradd --uid 1000 --user-group --groups sudo --create-home --shell /bin/bash user',
        SUITE,
        tree,
        ...(await debianSources(SUITE, options.signal)),
      ],
      { env: aptEnvironment(), ...options },
    );
  };
  await withFreshIndexes(attempt, options);
}

/** mmdebstrap says `I: <what it does now>...` on standard error, in pieces of any size. */
export function mmdebstrapProgress(onDetail: (detail: string) => void): (text: string) => void {
  let rest = '';
  return (text) => {
    const lines = (rest + text).split(/[\n\r]/);
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const [, detail] = /^I: (.+?)(\.\.\.)?\s*$/.exec(line) ?? [];
      if (detail !== undefined) onDetail(detail);
    }
  };
}

/** Debian's own npm brings 400 packages along; the npm package holds all it needs, and fits our Node's version. */
async function addNode(tree: string, nodePath: string, npmDir: string): Promise<void> {
  const local = join(tree, 'usr', 'local');
  await cp(nodePath, join(local, 'bin', 'node'), { dereference: true });
  await chmod(join(local, 'bin', 'node'), 0o755);
  const npm = join(local, 'lib', 'node_modules', 'npm');
  await mkdir(dirname(npm), { recursive: true });
  await cp(npmDir, npm, {
    recursive: true,
    filter: (source) => !['docs', 'man'].some((folder) => source === join(npmDir, folder)),
  });
  // Whoever installed npm on this machine, and with whichever umask: in the guest it is for everybody.
  await runTool('chmod', ['-R', 'u=rwX,go=rX', join(local, 'lib')]);
  for (const command of ['npm', 'npx']) {
    await chmod(join(npm, 'bin', `${command}-cli.js`), 0o755);
    await symlink(`../lib/node_modules/npm/bin/${command}-cli.js`, join(local, 'bin', command));
  }
}

const DEBIAN_SOURCES = `Types: deb
URIs: http://deb.debian.org/debian
Suites: ${SUITE} ${SUITE}-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: ${SUITE}-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`;

/** What the guest's own files say, whatever machine the template was made on. */
const FILES: readonly { readonly path: string; readonly content: string; readonly mode?: number }[] = [
  { path: 'etc/hostname', content: 'sandbox\n' },
  { path: 'etc/hosts', content: '127.0.0.1 localhost sandbox\n::1 localhost ip6-localhost ip6-loopback\n' },
  { path: 'etc/resolv.conf', content: `nameserver ${GUEST_NETWORK.gateway}\n` },
  { path: 'etc/fstab', content: '' },
  // Empty means: not known yet. Sandboxes must not share one.
  { path: 'etc/machine-id', content: '', mode: 0o444 },
  { path: 'etc/default/locale', content: 'LANG=C.UTF-8\n' },
  { path: 'etc/sudoers.d/user', content: 'user ALL=(ALL:ALL) NOPASSWD: ALL\n', mode: 0o440 },
  { path: 'etc/apt/sources.list.d/debian.sources', content: DEBIAN_SOURCES },
  // A sandbox is thrown away; archives of what was installed would only fill its overlay. As in Debian's images.
  {
    path: 'etc/apt/apt.conf.d/90nestbox',
    content: 'APT::Install-Recommends "false";\nAcquire::Languages "none";\nAPT::Keep-Downloaded-Packages "false";\n',
  },
  { path: 'etc/dpkg/dpkg.cfg.d/90nestbox', content: `${DPKG_EXCLUDES.join('\n')}\n` },
];

/** What mmdebstrap writes from its options or copies from the host; FILES says it in the guest's way. */
const HOST_FILES = ['etc/apt/sources.list', 'etc/apt/apt.conf.d/99mmdebstrap', 'etc/dpkg/dpkg.cfg.d/99mmdebstrap'];
const EMPTIED_FOLDERS = ['var/lib/apt/lists', 'var/cache/apt', 'var/log', 'tmp', 'run', 'etc/apt/sources.list.d'];

/** Folders that apt expects to find. */
const APT_FOLDERS = [
  'var/log/apt',
  'var/cache/apt/archives',
  'var/cache/apt/archives/partial',
  'var/lib/apt/lists/partial',
];

async function makeNeutral(tree: string): Promise<void> {
  for (const path of HOST_FILES) await rm(join(tree, path), { force: true });
  for (const folder of EMPTIED_FOLDERS) {
    for (const name of await readdir(join(tree, folder)))
      await rm(join(tree, folder, name), { recursive: true, force: true });
  }
  for (const folder of APT_FOLDERS) {
    await mkdir(join(tree, folder), { recursive: true });
    await chmod(join(tree, folder), 0o755);
  }
  for (const { path, content, mode = 0o644 } of FILES) {
    // Removed first: it may be a link, and would be followed on this machine.
    await rm(join(tree, path), { force: true });
    await writeFile(join(tree, path), content);
    // Apart, since our umask does not count here.
    await chmod(join(tree, path), mode);
  }
}
