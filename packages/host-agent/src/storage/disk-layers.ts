import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, open, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { NestboxError } from '@nestbox/contract';
import { CommandError, runCommand } from '@nestbox/kit';
import { allSettled } from '../all-settled.ts';
import { mapDiskFull, requireFreeSpace } from './disk-space.ts';
import { errnoOf } from './errno.ts';
import { linkFile, machineFiles, ROOTFS_NAME } from './machine-folder.ts';

/**
 * A machine's root disk is a stack of files in one folder: `rootfs.ext4` (raw) at the bottom, qcow2 layers above it, each
 * naming the one below by its bare name. So a folder works wherever it is, and a layer may be in several folders at once
 * (hard links). Layers below the top, and tops that another folder has too, are never written to.
 */
export interface NewLayer {
  readonly folder: string;
  /** Undefined: the raw disk at the bottom. */
  readonly below: string | undefined;
  readonly diskMib: number;
  /** Refuse when less than this is free. Default 512 MiB. */
  readonly minimumFreeBytes?: number;
}

export const DEFAULT_MINIMUM_FREE_BYTES = 512 * 2 ** 20;

/** As every layer is named; never the same twice, since the name stands in the layers above. */
function newLayerName(): string {
  return `disk-${randomBytes(4).toString('hex')}.qcow2`;
}

const NAME_HEADER_BYTES = 20;
const QCOW2_MAGIC = 0x51_46_49_fb;
const MAX_NAME_BYTES = 1023;
const LAYER_NAME = /^disk-[0-9a-f]{8}\.qcow2$/;

export function isLayerName(name: string): boolean {
  return LAYER_NAME.test(name);
}

/** Links a stack into another folder. Throws as linkFile does. */
export async function linkLayers(
  stack: {
    readonly folder: string;
    /** Top first. */
    readonly layers: readonly string[];
    /** The raw disk at the bottom. */
    readonly bottomPath: string;
  },
  target: string,
): Promise<void> {
  const from = machineFiles(stack.folder);
  const to = machineFiles(target);
  await allSettled([
    linkFile(stack.bottomPath, to.rootfs),
    ...stack.layers.map((name) => linkFile(from.layer(name), to.layer(name))),
  ]);
}

/** Makes empty layers. One factory for each host agent: it keeps what is always the same. */
export class DiskLayers {
  readonly #workDir: string;
  readonly #blanks = new Map<string, Promise<Buffer>>();

  /** `workDir`: for files that are gone when a call returns; whoever starts after a crash removes it. */
  constructor(workDir: string) {
    this.#workDir = workDir;
  }

  /**
   * Makes an empty layer on top of another and returns its name. It takes 200 KiB until the guest writes. Throws
   * NestboxError host_disk_full, not_set_up (no qemu-img).
   */
  async create(layer: NewLayer): Promise<string> {
    const { folder, below, diskMib } = layer;
    const [blank] = await Promise.all([
      this.#blank(diskMib, below === undefined),
      requireFreeSpace(folder, layer.minimumFreeBytes ?? DEFAULT_MINIMUM_FREE_BYTES),
    ]);
    const name = newLayerName();
    try {
      await using file = await open(join(folder, name), 'wx', 0o600);
      await file.writeFile(below === undefined ? blank : withBackingName(blank, below));
    } catch (error) {
      await rm(join(folder, name), { force: true });
      throw mapDiskFull(error);
    }
    return name;
  }

  /** An empty layer differs from another of its size in the name of the file below alone. */
  #blank(diskMib: number, onRaw: boolean): Promise<Buffer> {
    const key = `${diskMib} ${onRaw}`;
    const known = this.#blanks.get(key);
    if (known !== undefined) return known;
    const made = makeBlank(this.#workDir, diskMib, onRaw);
    this.#blanks.set(key, made);
    made.catch(() => this.#blanks.delete(key));
    return made;
  }
}

async function makeBlank(workDir: string, diskMib: number, onRaw: boolean): Promise<Buffer> {
  await mkdir(workDir, { recursive: true, mode: 0o700 });
  const folder = await mkdtemp(join(workDir, 'blank-'));
  try {
    const path = join(folder, 'blank.qcow2');
    const below = onRaw ? ['-F', 'raw', '-b', ROOTFS_NAME] : ['-F', 'qcow2', '-b', newLayerName()];
    await qemuImg(['create', '-q', '-u', '-f', 'qcow2', ...below, path, `${diskMib}M`]);
    return await readFile(path);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Source: QEMU, docs/interop/qcow2.txt: bytes 8 to 15 say where the name stands, 16 to 19 how long it is. */
function withBackingName(blank: Buffer, name: string): Buffer {
  const offset = Number(blank.readBigUInt64BE(8));
  const length = blank.readUInt32BE(16);
  if (!isLayerName(name) || name.length !== length)
    throw new NestboxError('internal', `${JSON.stringify(name)} is no name of a disk layer.`);
  const layer = Buffer.from(blank);
  layer.write(name, offset, 'latin1');
  return layer;
}

/**
 * Takes layers away from the top of a stack that nobody uses now, so that stacks stay short. Returns the names that are left,
 * top first; the caller writes them down and then removes the others. Whatever interrupts it, the stack as it was goes on
 * being right.
 */
export async function shortenStack(
  folder: string,
  layers: readonly string[],
  maxLayers: number,
  signal?: AbortSignal,
): Promise<readonly string[]> {
  const [top, second] = layers;
  if (top === undefined || second === undefined) return layers;
  const present = await layersFrom(folder, top);
  // A merge inside a running VM was carried out, and whoever asked for it did not come to write that down.
  if (present[1] !== second) return present;
  if ((await isPrivate(folder, top)) && (await isPrivate(folder, second))) {
    // Only the top reads the one below, and it covers whatever is copied down meanwhile.
    await qemuImg(['commit', '-q', '-d', '-f', 'qcow2', '-b', join(folder, second), join(folder, top)], signal);
    return layers.slice(1);
  }
  if (layers.length <= maxLayers) return layers;
  const flat = newLayerName();
  try {
    // Safe mode: what differs between the layers below and the raw disk is copied up. (convert -B copies one layer only.)
    await copyFile(join(folder, top), join(folder, flat));
    await qemuImg(['rebase', '-q', '-f', 'qcow2', '-F', 'raw', '-b', ROOTFS_NAME, join(folder, flat)], signal);
    await sync(join(folder, flat));
    signal?.throwIfAborted();
  } catch (error) {
    await rm(join(folder, flat), { force: true });
    throw error;
  }
  return [flat];
}

/** The layers of a stack as their own headers name them, top first. Throws what the system says of one that is missing. */
export async function layersFrom(folder: string, top: string): Promise<readonly string[]> {
  const layers: string[] = [];
  for (let name = top; name !== ROOTFS_NAME; name = await nameBelow(join(folder, name))) {
    if (!isLayerName(name) || layers.includes(name))
      throw new NestboxError('internal', `The disk layer ${join(folder, layers.at(-1) ?? '')} names ${name} below it.`);
    layers.push(name);
  }
  return layers;
}

/** Source: QEMU, docs/interop/qcow2.txt: the magic, then bytes 8 to 15 say where the name stands, 16 to 19 how long it is. */
async function nameBelow(path: string): Promise<string> {
  await using file = await open(path, 'r');
  const header = Buffer.alloc(NAME_HEADER_BYTES);
  await file.read(header, 0, header.length, 0);
  if (header.readUInt32BE(0) !== QCOW2_MAGIC) throw new NestboxError('internal', `${path} is no disk layer.`);
  const name = Buffer.alloc(Math.min(header.readUInt32BE(16), MAX_NAME_BYTES));
  await file.read(name, 0, name.length, Number(header.readBigUInt64BE(8)));
  return name.toString('latin1');
}

/** No other folder has it. */
async function isPrivate(folder: string, layer: string): Promise<boolean> {
  return (await stat(join(folder, layer))).nlink === 1;
}

async function sync(path: string): Promise<void> {
  await using file = await open(path, 'r');
  await file.sync();
}

async function qemuImg(args: readonly string[], signal?: AbortSignal): Promise<void> {
  try {
    await runCommand('qemu-img', args, signal === undefined ? {} : { signal });
  } catch (error) {
    if (error instanceof CommandError && errnoOf(error.cause) === 'ENOENT')
      throw new NestboxError('not_set_up', 'The command qemu-img is missing. Install it (Debian: qemu-utils).', {
        cause: error,
      });
    const mapped = mapDiskFull(error);
    throw mapped instanceof NestboxError
      ? mapped
      : new NestboxError('internal', 'A disk layer failed.', { cause: error });
  }
}
