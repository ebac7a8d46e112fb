import { stat } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { type FileSum, readDiskSums, writeDiskSums } from '../storage/disk-sums.ts';
import { BootGate } from './boot-gate.ts';
import { KnownDigests } from './known-digests.ts';
import { type BackgroundOptions, digestOf, keyOf, type RestingDisk, statAll } from './resting-disk.ts';

/** Notes in the background what disks contain that nobody writes to. */
export class DiskNotes {
  /** When that was noted, by file: many folders share one. */
  readonly #noted = new KnownDigests();
  /** In the background one disk is read at a time. */
  readonly #background = new BootGate(1);

  /** Notes what a disk contains, unless that was done before. Throws what the system says, and the signal's reason. */
  async note(disk: RestingDisk, options: BackgroundOptions): Promise<void> {
    const { folder, of, names } = disk;
    const before = await readDiskSums(folder);
    if (before?.of === of && names.every((name) => before.files[name] !== undefined)) return;
    await this.inTurn(options.signal, async () => {
      const files: Record<string, FileSum> = {};
      const damaged: string[] = [];
      for (const [name, { path, stats }] of await statAll(disk)) {
        const earlier = before?.files[name];
        const isSame = earlier?.bytes === stats.size && earlier.modifiedMs === stats.mtimeMs;
        if (isSame && before?.damaged.includes(name)) damaged.push(name);
        const known = this.#noted.get(keyOf(stats));
        const digest = (isSame ? earlier.digest : undefined) ?? known ?? (await digestOf(path, options));
        if (keyOf(await stat(path)) !== keyOf(stats)) throw new NestboxError('internal', `${path} is written to.`);
        this.#noted.set(keyOf(stats), digest);
        files[name] = { bytes: stats.size, modifiedMs: stats.mtimeMs, digest };
      }
      options.signal.throwIfAborted();
      await writeDiskSums(folder, { format: 1, of, files, damaged });
    });
  }

  /** Runs work that reads a disk in the background. Throws the signal's reason. */
  inTurn<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    return this.#background.run(work, signal);
  }
}
