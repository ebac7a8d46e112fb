import type { Stats } from 'node:fs';
import type { NestboxError } from '@nestbox/contract';
import { damagedFile } from '../damaged-file.ts';
import { type DiskSums, diskFileNames, type FileSum, readDiskSums, writeDiskSums } from '../storage/disk-sums.ts';
import { machineFiles } from '../storage/machine-folder.ts';
import { checkDisk, checkLayers, type DiskSeal } from '../storage/snapshot-manifest.ts';
import type { DiskNotes } from './disk-notes.ts';
import { KnownDigests } from './known-digests.ts';
import {
  type BackgroundOptions,
  builtTemplateDisk,
  digestOf,
  keyOf,
  type RestingDisk,
  sealedDisk,
  statAll,
} from './resting-disk.ts';

/**
 * Checks disks before VMs are started on them, and in the background. A file with the size and the time that were
 * noted is what was written; of one with another time the content decides. What has no sums yet is told by the size and time of its top.
 */
export class DiskGuard {
  readonly #notes: DiskNotes;
  readonly #read = new KnownDigests();

  constructor(notes: DiskNotes) {
    this.#notes = notes;
  }

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

  /**
   * Reads a disk whatever its times say, and notes what it contains if that was not done. `seen`: what was read in this round, which is read once.
   * What is found counts from now on. Throws `snapshot_damaged`, what the system says, and the signal's reason.
   */
  async verify(disk: RestingDisk, seen: Map<string, string>, options: BackgroundOptions): Promise<void> {
    await this.#notes.note(disk, options);
    const sums = await readDiskSums(disk.folder, disk.of);
    if (sums === undefined) return;
    const damaged = await this.#notes.inTurn(options.signal, async () => {
      const found: string[] = [];
      for (const [name, { path, stats }] of await statAll(disk)) {
        const digest = seen.get(keyOf(stats)) ?? (await digestOf(path, options));
        seen.set(keyOf(stats), digest);
        this.#read.set(`${keyOf(stats)} ${stats.ctimeMs}`, digest);
        if (digest !== sums.files[name]?.digest) found.push(name);
      }
      return found;
    });
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
    this.#read.set(key, digest);
    return digest;
  }
}

/** A disk that is full does not make a sandbox unusable: then the same is found out again. */
async function keepSums(folder: string, sums: DiskSums): Promise<void> {
  await writeDiskSums(folder, sums).catch(() => undefined);
}

function otherContent(path: string): NestboxError {
  return damagedFile(path, 'its content is not what was written');
}
