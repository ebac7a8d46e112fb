import type { Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { contentDigest, type DigestOptions } from '../storage/content-digest.ts';
import {
  builtKey,
  type DiskSums,
  diskFileNames,
  type FileSum,
  readDiskSums,
  sealKey,
  writeDiskSums,
} from '../storage/disk-sums.ts';
import { errnoOf } from '../storage/errno.ts';
import { machineFiles, ROOTFS_NAME } from '../storage/machine-folder.ts';
import { checkDisk, checkLayers, type DiskSeal, damagedFile } from '../storage/snapshot-manifest.ts';
import { BootGate } from './boot-gate.ts';

/** A disk that nobody writes to. */
export interface RestingDisk {
  readonly folder: string;
  /** As `disk.sums` names it. */
  readonly of: string;
  /** Of its files in the folder. */
  readonly names: readonly string[];
}

/** The disk of a state, and the agent disk beside it. */
export function sealedDisk(folder: string, seal: DiskSeal): RestingDisk {
  const { root, agent } = diskFileNames(seal.layers);
  return { folder, of: sealKey(seal), names: [...root, agent] };
}

/** The disk of a template that was built. */
export function builtTemplateDisk(folder: string, template: { readonly createdAtMs: number }): RestingDisk {
  return { folder, of: builtKey(template), names: [ROOTFS_NAME] };
}

/** Of work that anybody may end who needs the disk. */
export type BackgroundOptions = DigestOptions & { readonly signal: AbortSignal };

/** More files than this are not kept in mind. */
const MAX_KNOWN = 10_000;

/**
 * Checks disks before VMs are started on them, and notes in the background what they contain. A file with the size and the time that were
 * noted is what was written; of one with another time the content decides. What has no sums yet is told by the size and time of its top.
 */
export class DiskGuard {
  /** What files contained when that was noted, by file: many folders share one. */
  readonly #noted = new Map<string, string>();
  /** What they contained when they were read last. */
  readonly #read = new Map<string, string>();
  /** In the background one disk is read at a time. */
  readonly #background = new BootGate(1);

  /** Before a restore. Throws `snapshot_damaged`, and the signal's reason. */
  async requireIntact(folder: string, seal: DiskSeal, signal?: AbortSignal): Promise<void> {
    const disk = sealedDisk(folder, seal);
    await statAll(disk);
    if (!(await this.#check(disk, signal))) await checkDisk(folder, seal);
  }

  /**
   * Before a boot, which has another agent disk. A disk without sums may have been written to since: a boot takes it as it is. Throws
   * `snapshot_damaged`, and the signal's reason.
   */
  async requireBootable(folder: string, seal: DiskSeal, signal?: AbortSignal): Promise<void> {
    await checkLayers(folder, seal.layers);
    await this.#check({ ...sealedDisk(folder, seal), names: diskFileNames(seal.layers).root }, signal);
  }

  /** Before a boot of a template that was built. Throws `snapshot_damaged`, and the signal's reason. */
  async requireBuilt(folder: string, template: { readonly createdAtMs: number }, signal?: AbortSignal): Promise<void> {
    const disk = builtTemplateDisk(folder, template);
    await statAll(disk);
    await this.#check(disk, signal);
  }

  /** Notes what a disk contains, unless that was done before. Throws what the system says, and the signal's reason. */
  async note(disk: RestingDisk, options: BackgroundOptions): Promise<void> {
    const { folder, of, names } = disk;
    const before = await readDiskSums(folder);
    if (before?.of === of && names.every((name) => before.files[name] !== undefined)) return;
    await this.#background.run(async () => {
      const files: Record<string, FileSum> = {};
      const damaged: string[] = [];
      for (const [name, { path, stats }] of await statAll(disk)) {
        const earlier = before?.files[name];
        const isSame = earlier?.bytes === stats.size && earlier.modifiedMs === stats.mtimeMs;
        if (isSame && before?.damaged.includes(name)) damaged.push(name);
        const known = this.#noted.get(keyOf(stats));
        const digest = (isSame ? earlier.digest : undefined) ?? known ?? (await digestOf(path, options));
        if (keyOf(await stat(path)) !== keyOf(stats)) throw new NestboxError('internal', `${path} is written to.`);
        remember(this.#noted, keyOf(stats), digest);
        files[name] = { bytes: stats.size, modifiedMs: stats.mtimeMs, digest };
      }
      options.signal.throwIfAborted();
      await writeDiskSums(folder, { format: 1, of, files, damaged });
    }, options.signal);
  }

  /**
   * Reads a disk whatever its times say, and notes what it contains if that was not done. `seen`: what was read in this round, which is read once.
   * What is found counts from now on. Throws `snapshot_damaged`, what the system says, and the signal's reason.
   */
  async verify(disk: RestingDisk, seen: Map<string, string>, options: BackgroundOptions): Promise<void> {
    await this.note(disk, options);
    const sums = await readDiskSums(disk.folder, disk.of);
    if (sums === undefined) return;
    const damaged = await this.#background.run(async () => {
      const found: string[] = [];
      for (const [name, { path, stats }] of await statAll(disk)) {
        const digest = seen.get(keyOf(stats)) ?? (await digestOf(path, options));
        seen.set(keyOf(stats), digest);
        remember(this.#read, `${keyOf(stats)} ${stats.ctimeMs}`, digest);
        if (digest !== sums.files[name]?.digest) found.push(name);
      }
      return found;
    }, options.signal);
    options.signal.throwIfAborted();
    if (damaged.join() !== sums.damaged.join()) await keepSums(disk.folder, { ...sums, damaged });
    const [first] = damaged;
    if (first !== undefined) throw otherContent(machineFiles(disk.folder).layer(first));
  }

  /** What was found to be damaged when the disk was read last, in plain words; undefined: nothing. */
  async knownDamage({ folder, of }: RestingDisk): Promise<string | undefined> {
    const sums = await readDiskSums(folder, of);
    const [name] = sums?.damaged ?? [];
    return name === undefined ? undefined : otherContent(machineFiles(folder).layer(name)).message;
  }

  /** False: there are no sums. */
  async #check(disk: RestingDisk, signal: AbortSignal | undefined): Promise<boolean> {
    const sums = await readDiskSums(disk.folder, disk.of);
    if (sums === undefined) return false;
    const found = new Map<string, FileSum>();
    for (const [name, { path, stats }] of await statAll(disk)) {
      const sum = sums.files[name];
      if (sum === undefined) continue;
      if (stats.size !== sum.bytes) throw damagedFile(path, `it has ${stats.size} bytes and not ${sum.bytes}`);
      if (stats.mtimeMs === sum.modifiedMs && !sums.damaged.includes(name)) continue;
      if ((await this.#digestNow(path, stats, signal)) !== sum.digest) {
        await keepSums(disk.folder, { ...sums, damaged: [...new Set([...sums.damaged, name])] });
        throw otherContent(path);
      }
      found.set(name, { ...sum, modifiedMs: stats.mtimeMs });
    }
    if (found.size > 0)
      await keepSums(disk.folder, {
        ...sums,
        files: { ...sums.files, ...Object.fromEntries(found) },
        damaged: sums.damaged.filter((name) => !found.has(name)),
      });
    return true;
  }

  /** Of a file that nothing has happened to since it was read last it is known. */
  async #digestNow(path: string, stats: Stats, signal: AbortSignal | undefined): Promise<string> {
    const key = `${keyOf(stats)} ${stats.ctimeMs}`;
    const digest = this.#read.get(key) ?? (await digestOf(path, signal === undefined ? {} : { signal }));
    remember(this.#read, key, digest);
    return digest;
  }
}

/** Throws `snapshot_damaged` when one is missing. */
async function statAll({ folder, names }: RestingDisk) {
  const files = machineFiles(folder);
  return Promise.all(
    names.map(async (name) => {
      const path = files.layer(name);
      const stats = await stat(path).catch((cause: unknown) => {
        throw damagedFile(path, errnoOf(cause) === 'ENOENT' ? 'it is missing' : 'it cannot be read', cause);
      });
      return [name, { path, stats }] as const;
    }),
  );
}

/** What the host's own disk cannot give back is damaged. */
async function digestOf(path: string, options: DigestOptions): Promise<string> {
  try {
    return await contentDigest(path, options);
  } catch (cause) {
    const code = errnoOf(cause);
    if (code === 'EIO' || code === 'EILSEQ' || code === 'ENOENT')
      throw damagedFile(path, code === 'ENOENT' ? 'it is missing' : `it cannot be read (${code})`, cause);
    throw cause;
  }
}

/** A disk that is full does not make a sandbox unusable: then the same is found out again. */
async function keepSums(folder: string, sums: DiskSums): Promise<void> {
  await writeDiskSums(folder, sums).catch(() => undefined);
}

function otherContent(path: string): NestboxError {
  return damagedFile(path, 'its content is not what was written');
}

function keyOf({ dev, ino, size, mtimeMs }: Stats): string {
  return [dev, ino, size, mtimeMs].join(' ');
}

function remember(map: Map<string, string>, key: string, digest: string): void {
  map.delete(key);
  map.set(key, digest);
  const [oldest] = map.keys();
  if (map.size > MAX_KNOWN && oldest !== undefined) map.delete(oldest);
}
