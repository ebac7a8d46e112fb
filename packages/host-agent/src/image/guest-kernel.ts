import { chmod, cp, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NestboxError } from '@nestbox/contract';
import { syncFile } from '@nestbox/kit';
import type { HostLayout } from '../storage/layout.ts';
import { type AptOptions, aptEnvironment, aptFetch, withFreshIndexes } from './apt.ts';
import { extractPvhKernel } from './elf-kernel.ts';
import { pathExists } from './path-exists.ts';
import { runTool } from './run-tool.ts';

/** Debian's kernel for virtual machines: small, virtio as modules, no firmware. It depends on the current version's package. */
const META_PACKAGE = 'linux-image-cloud-amd64';

/** The package that holds one kernel version's files. */
export interface KernelPackage {
  /** e.g. `linux-image-6.1.0-56-cloud-amd64` */
  readonly name: string;
  /** Debian's version, e.g. `6.1.192-2` */
  readonly debianVersion: string;
  /** What the kernel calls itself (`uname -r`), e.g. `6.1.0-56-cloud-amd64` */
  readonly release: string;
}

/** The files of one kernel version, below `kernels/<version>/`. */
export interface GuestKernel {
  /** `<release>_<Debian version>`: a release is rebuilt under the same name for security updates. */
  readonly version: string;
  readonly release: string;
  /** What QEMU boots: `vmlinux` where there is one, else `vmlinuz`. */
  readonly kernelPath: string;
  /** `lib/modules/<release>`, pruned, with depmod's files. */
  readonly moduleTree: string;
}

/** Parses the Depends field that `apt-cache show` prints for the meta package. */
export function parseKernelPackage(show: string): KernelPackage | undefined {
  const [, name, release, debianVersion] =
    /^Depends:.*?\b(linux-image-(\d[\w.+~-]*-cloud-amd64)) \(= ([^)\s]+)\)/m.exec(show) ?? [];
  if (name === undefined || release === undefined || debianVersion === undefined) return undefined;
  return { name, release, debianVersion };
}

export function kernelVersion({ release, debianVersion }: KernelPackage): string {
  return `${release}_${debianVersion}`;
}

/** The inverse of kernelVersion's first half. */
export function kernelRelease(version: string): string {
  return version.slice(0, version.lastIndexOf('_'));
}

/** The kernel of one version if it is there: the folder is renamed into place complete. */
export async function findKernel(layout: HostLayout, version: string): Promise<GuestKernel | undefined> {
  const folder = layout.kernelDir(version);
  const release = kernelRelease(version);
  const moduleTree = join(folder, 'lib', 'modules', release);
  if (!(await pathExists(join(moduleTree, 'modules.dep')))) return undefined;
  const elf = join(folder, 'vmlinux');
  const bzImage = join(folder, 'vmlinuz');
  if (!(await pathExists(bzImage))) return undefined;
  return { version, release, moduleTree, kernelPath: (await pathExists(elf)) ? elf : bzImage };
}

/** Asks apt which kernel is current. Throws not_set_up when this machine's sources have none. */
export async function currentKernelPackage(options: AptOptions): Promise<KernelPackage> {
  const show = async () =>
    runTool('apt-cache', ['show', '--no-all-versions', META_PACKAGE], {
      env: aptEnvironment(),
      ...(options.signal && { signal: options.signal }),
    });
  const { stdout } = await withFreshIndexes(show, options).catch((cause: unknown) => {
    options.signal?.throwIfAborted();
    throw new NestboxError(
      'not_set_up',
      `apt knows no package ${META_PACKAGE}. The guest kernel comes from Debian's sources; they must be among this machine's apt sources.`,
      { cause },
    );
  });
  const found = parseKernelPackage(stdout);
  if (found === undefined)
    throw new NestboxError('not_set_up', `apt's answer for ${META_PACKAGE} names no kernel of a known form.`);
  return found;
}

export interface FetchKernelOptions extends AptOptions {
  readonly layout: HostLayout;
  readonly workDir: string;
}

/**
 * Fetches the kernel's package with apt and unpacks it without installing it: nothing of the machine's own boot changes.
 */
export async function fetchKernel(wanted: KernelPackage, options: FetchKernelOptions): Promise<GuestKernel> {
  const { layout, workDir, onOutput, signal } = options;
  const work = join(workDir, 'kernel');
  await rm(work, { recursive: true, force: true });
  await mkdir(work, { recursive: true });

  // As root, since the user _apt may not write below the state folder.
  const download = ['-o', 'APT::Sandbox::User=root', 'download', `${wanted.name}=${wanted.debianVersion}`];
  const aptOptions: AptOptions = { cwd: work, ...(onOutput && { onOutput }), ...(signal && { signal }) };
  await withFreshIndexes(() => aptFetch(download, aptOptions), aptOptions);
  const archive = (await readdir(work)).find((name) => name.endsWith('.deb'));
  if (archive === undefined) throw new NestboxError('internal', `apt-get download ${wanted.name} left no file.`);
  const unpacked = join(work, 'package');
  const run = { ...(signal && { signal }) };
  await runTool('dpkg-deb', ['--extract', join(work, archive), unpacked], run);

  const result = join(work, 'result');
  await mkdir(result);
  const bzImage = await readFile(join(unpacked, 'boot', `vmlinuz-${wanted.release}`));
  await writeFile(join(result, 'vmlinuz'), bzImage, { mode: 0o444 });
  const elf = await extractPvhKernel(bzImage, signal);
  if (elf !== undefined) await writeFile(join(result, 'vmlinux'), elf, { mode: 0o444 });
  await copyModules(unpacked, result, wanted.release);
  await runTool('depmod', ['--basedir', result, wanted.release], run);

  return installKernel(layout, wanted, result, join(work, 'replaced'));
}

async function installKernel(
  layout: HostLayout,
  wanted: KernelPackage,
  result: string,
  replaced: string,
): Promise<GuestKernel> {
  const version = kernelVersion(wanted);
  const folder = layout.kernelDir(version);
  await chmod(result, 0o755);
  for (const name of await readdir(result)) await syncFile(join(result, name));
  await mkdir(layout.kernelsDir, { recursive: true });
  // A folder that is there is not complete, or is to be made anew; the work folder that takes it is removed at the end.
  if (await pathExists(folder)) await rename(folder, replaced);
  await rename(result, folder);
  await syncFile(layout.kernelsDir);
  const kernel = await findKernel(layout, version);
  if (kernel === undefined) throw new NestboxError('internal', `The kernel in ${folder} is not complete.`);
  return kernel;
}

/**
 * Parts of the module tree that a guest can use: it has virtio devices, and no PCI cards, disks or network cards of
 * makers. File systems, networking and device mapper stay whole, for containers and VPNs inside a sandbox.
 */
const KEPT_MODULES = [
  'kernel/arch',
  'kernel/block',
  'kernel/crypto',
  'kernel/drivers/block',
  'kernel/drivers/char/hw_random',
  'kernel/drivers/md',
  'kernel/drivers/net',
  'kernel/drivers/virtio',
  'kernel/fs',
  'kernel/lib',
  'kernel/mm',
  'kernel/net',
];
const DROPPED_MODULES = ['kernel/drivers/net/ethernet', 'kernel/drivers/net/hyperv', 'kernel/drivers/net/vmxnet3'];

async function copyModules(unpacked: string, result: string, release: string): Promise<void> {
  const under = (await pathExists(join(unpacked, 'lib', 'modules'))) ? 'lib' : join('usr', 'lib');
  const from = join(unpacked, under, 'modules', release);
  const to = join(result, 'lib', 'modules', release);
  await mkdir(to, { recursive: true });
  for (const name of await readdir(from)) {
    if (name.startsWith('modules.')) await cp(join(from, name), join(to, name));
  }
  for (const part of KEPT_MODULES) {
    const source = join(from, part);
    if (!(await pathExists(source))) continue;
    const dropped = DROPPED_MODULES.map((path) => join(from, path));
    await cp(source, join(to, part), { recursive: true, filter: (path) => !dropped.includes(path) });
  }
}
