import { stat } from 'node:fs/promises';
import { damagedFile } from '../damaged-file.ts';
import { type MemoryImage, verifyImage } from '../memory/memory-image.ts';
import type { DigestOptions } from '../storage/content-digest.ts';
import { errnoOf } from '../storage/errno.ts';
import { machineFiles } from '../storage/machine-folder.ts';

/**
 * Checks memory images before VMs are started on them. An image is read as a whole once in the life of this process: it never
 * changes, and all its VMs share one file. A file that was changed in place has another time of change and is read again.
 */
export class ImageGuard {
  readonly #checked = new Map<string, Promise<void>>();

  /** Throws `snapshot_damaged`. */
  async requireIntact(folder: string): Promise<void> {
    const { key, image } = await this.#look(folder);
    const known = this.#checked.get(key);
    if (known !== undefined) return known;
    const check = verifyImage(image);
    this.#checked.set(key, check);
    check.catch(() => this.#checked.delete(key));
    return check;
  }

  /**
   * Reads an image whatever was found before; what is found counts from now on. `seen`: those of this round, of which each is read once. Throws
   * `snapshot_damaged`, and the signal's reason.
   */
  async verify(folder: string, seen: Map<string, Promise<void>>, { signal, pace }: DigestOptions): Promise<void> {
    const { key, image } = await this.#look(folder);
    const known = seen.get(key);
    if (known !== undefined) return known;
    const check = verifyImage(image, signal, pace);
    seen.set(key, check);
    try {
      await check;
      this.#checked.set(key, check);
    } catch (error) {
      this.#checked.delete(key);
      if (signal?.aborted) seen.delete(key);
      throw error;
    }
  }

  /** Throws `snapshot_damaged` when it is missing. */
  async #look(folder: string): Promise<{ readonly key: string; readonly image: MemoryImage }> {
    const { memory, memoryMap } = machineFiles(folder);
    const [image, map] = await Promise.all([statIfThere(memory), statIfThere(memoryMap)]);
    if (image === undefined) throw damagedFile(memory, 'it is missing');
    // One without a map is blank: no VM ever writes to it.
    const key = [image.dev, image.ino, image.size, image.mtimeNs, map?.ino, map?.mtimeNs].join(' ');
    return { key, image: { path: memory, mapPath: map === undefined ? undefined : memoryMap } };
  }
}

async function statIfThere(path: string) {
  try {
    return await stat(path, { bigint: true });
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
