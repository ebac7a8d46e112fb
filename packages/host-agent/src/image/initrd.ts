import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GUEST_NETWORK, NestboxError } from '@nestbox/contract';
import { type CpioEntry, packCpio } from './cpio.ts';
import { decompressIfNeeded } from './decompress.ts';
import { loadOrder, type ModulePath, moduleName, readModuleTree } from './kernel-modules.ts';

const INIT_SCRIPT = new URL('./initrd/init', import.meta.url);

/** Where Debian's busybox-static, and the static busybox of other distributions, is. */
const BUSYBOX_PATHS = ['/bin/busybox', '/usr/bin/busybox', '/bin/busybox.static', '/usr/bin/busybox-static'];

/** Every program that the init script calls and the shell does not have built in. */
const APPLETS = ['sh', 'ifconfig', 'insmod', 'ln', 'mkdir', 'mount', 'poweroff', 'route', 'sleep', 'switch_root'];

/** The modules that the init script loads, as it groups them. */
const TRANSPORT_PCI = ['virtio_pci'];
const TRANSPORT_MMIO = ['virtio_mmio'];
const DRIVERS = ['virtio_blk', 'virtio_net', 'ext4'];

/** Which module files the init script loads, in order, by the name of the shell variable it reads them from. */
export interface ModulePlan {
  readonly TRANSPORT_COMMON: readonly ModulePath[];
  readonly TRANSPORT_PCI: readonly ModulePath[];
  readonly TRANSPORT_MMIO: readonly ModulePath[];
  readonly DRIVERS: readonly ModulePath[];
}

/**
 * Splits what the guest needs into what every machine loads and what only one transport loads.
 * Throws not_set_up when the kernel lacks one.
 */
export async function planModules(moduleTree: string): Promise<ModulePlan> {
  const { dependencies, builtin } = await readModuleTree(moduleTree);
  const order = (names: readonly string[]) => loadOrder(names, dependencies, builtin);
  const pci = order(TRANSPORT_PCI);
  const mmio = order(TRANSPORT_MMIO);
  const common = pci.filter((path) => mmio.includes(path));
  const loaded = new Set([...pci, ...mmio]);
  return {
    TRANSPORT_COMMON: common,
    TRANSPORT_PCI: pci.filter((path) => !common.includes(path)),
    TRANSPORT_MMIO: mmio.filter((path) => !common.includes(path)),
    DRIVERS: order(DRIVERS).filter((path) => !loaded.has(path)),
  };
}

/** Names of modules become words of a shell script that PID 1 reads; nothing else may get in there. */
const SAFE_MODULE_NAME = /^[a-z0-9_]+$/i;

export function modulesScript(plan: ModulePlan): string {
  return Object.entries(plan)
    .map(([variable, paths]: [string, readonly ModulePath[]]) => {
      const names = paths.map(moduleName);
      const odd = names.find((name) => !SAFE_MODULE_NAME.test(name));
      if (odd !== undefined)
        throw new NestboxError('not_set_up', `The guest kernel has a module with an odd name: ${odd}`);
      return `${variable}='${names.join(' ')}'\n`;
    })
    .join('');
}

/** The init script with the guest's network filled in. */
export async function readInitScript(): Promise<string> {
  const netmask = dottedNetmask(GUEST_NETWORK.prefixLength);
  return (await readFile(INIT_SCRIPT, 'utf8'))
    .replace('@GUEST_ADDRESS@', GUEST_NETWORK.address)
    .replace('@GUEST_NETMASK@', netmask)
    .replace('@GUEST_GATEWAY@', GUEST_NETWORK.gateway);
}

export function dottedNetmask(prefixLength: number): string {
  const bits = prefixLength === 0 ? 0 : (0xffff_ffff << (32 - prefixLength)) >>> 0;
  return [24, 16, 8, 0].map((shift) => (bits >>> shift) & 0xff).join('.');
}

/**
 * Makes the initial RAM disk for one kernel. Uncompressed: unpacking it is a copy, while decompressing is what an
 * emulated processor is slowest at. The same inputs give the same bytes.
 */
export async function buildInitrd(moduleTree: string): Promise<Uint8Array> {
  const [plan, init, busybox] = await Promise.all([planModules(moduleTree), readInitScript(), readBusybox()]);
  const modules = await Promise.all(
    Object.values(plan)
      .flat()
      .map(async (path: ModulePath) => ({
        kind: 'file' as const,
        path: `modules/${moduleName(path)}.ko`,
        mode: 0o400,
        content: await decompressIfNeeded(await readFile(join(moduleTree, path))),
      })),
  );
  const entries: CpioEntry[] = [
    ...['bin', 'dev', 'modules', 'newroot', 'proc', 'sys'].map(
      (path) => ({ kind: 'directory', path, mode: 0o755 }) as const,
    ),
    // The kernel opens it for init before init can mount anything.
    { kind: 'character-device', path: 'dev/console', mode: 0o600, major: 5, minor: 1 },
    { kind: 'file', path: 'init', mode: 0o755, content: Buffer.from(init) },
    { kind: 'file', path: 'modules.sh', mode: 0o400, content: Buffer.from(modulesScript(plan)) },
    { kind: 'file', path: 'bin/busybox', mode: 0o755, content: busybox },
    ...APPLETS.map((applet) => ({ kind: 'symlink', path: `bin/${applet}`, target: 'busybox' }) as const),
    ...modules,
  ];
  return packCpio(entries);
}

/** First characters of a SHA-256 that tell one version of a file from another in its name. */
export function initrdHash(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex').slice(0, 16);
}

async function readBusybox(): Promise<Uint8Array> {
  for (const path of BUSYBOX_PATHS) {
    const content = await readFile(path).catch(() => undefined);
    if (content !== undefined && isStaticElf(content)) return content;
  }
  throw new NestboxError(
    'not_set_up',
    'No static busybox is on this machine; install it: apt-get install busybox-static',
  );
}

/** Type of the program header that names a dynamic loader (elf(5)). */
const PT_INTERP = 3;

/** Says whether a 64-bit little-endian ELF runs without a dynamic loader: the initial RAM disk has none. */
export function isStaticElf(content: Uint8Array): boolean {
  const elf = Buffer.from(content.buffer, content.byteOffset, content.byteLength);
  if (elf.length < 64 || elf.readUInt32BE(0) !== 0x7f_45_4c_46 || elf[4] !== 2) return false;
  const headersOffset = Number(elf.readBigUInt64LE(32));
  const headerSize = elf.readUInt16LE(54);
  const count = elf.readUInt16LE(56);
  if (headersOffset + count * headerSize > elf.length) return false;
  for (let index = 0; index < count; index += 1) {
    if (elf.readUInt32LE(headersOffset + index * headerSize) === PT_INTERP) return false;
  }
  return true;
}
