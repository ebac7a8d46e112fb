import { link, mkdir, readdir, readFile, rm, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '@nestbox/kit';
import { FIRST_SLOT, LAST_SLOT } from './slot.ts';

/**
 * Who has which slot index on this machine: one file for each index, holding the tag of its installation. A slot's addresses
 * derive from its index alone, so two installations must never have the same one.
 *
 * A claim is a hard link to a file that holds the tag already: it appears at once and complete, or not at all.
 */
export class SlotClaims {
  readonly #dir: string;
  readonly #instance: string;
  readonly #tagFile: string;

  constructor(slotsDir: string, instance: string) {
    this.#dir = slotsDir;
    this.#instance = instance;
    this.#tagFile = join(slotsDir, `.${instance}`);
  }

  /** False when anybody has the index, this installation included. */
  async claim(index: number): Promise<boolean> {
    try {
      await link(this.#tagFile, this.#path(index));
      return true;
    } catch (error) {
      if (hasCode(error, 'EEXIST')) return false;
      if (!hasCode(error, 'ENOENT')) throw error;
    }
    // The first claim since the machine started: the folder or our own file is not there yet.
    await mkdir(this.#dir, { recursive: true, mode: 0o755 });
    await writeFileAtomic(this.#tagFile, `${this.#instance}\n`, 0o644);
    try {
      await link(this.#tagFile, this.#path(index));
      return true;
    } catch (error) {
      if (hasCode(error, 'EEXIST')) return false;
      throw error;
    }
  }

  /** Gives an index back. One that is free or another installation's is left alone. */
  async release(index: number): Promise<void> {
    if ((await this.holder(index)) !== this.#instance) return;
    await unlink(this.#path(index));
  }

  /** Removes our own file when nothing is claimed any more. The next claim makes it anew. */
  async leave(): Promise<void> {
    if ((await this.list()).length > 0) return;
    await rm(this.#tagFile, { force: true });
  }

  /** The tag of the installation that has this index; undefined when nobody has. */
  async holder(index: number): Promise<string | undefined> {
    try {
      return (await readFile(this.#path(index), 'utf8')).trim();
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  /** The indexes that this installation has. */
  async list(): Promise<number[]> {
    const own: number[] = [];
    for (const index of await this.taken()) if ((await this.holder(index)) === this.#instance) own.push(index);
    return own.sort((a, b) => a - b);
  }

  /** The indexes that anybody has, in no order. */
  async taken(): Promise<Set<number>> {
    const names = await readdir(this.#dir).catch((error: unknown) => {
      if (hasCode(error, 'ENOENT')) return [];
      throw error;
    });
    const indexes = names.filter((name) => /^[1-9][0-9]{0,4}$/.test(name)).map(Number);
    return new Set(indexes.filter((index) => index >= FIRST_SLOT && index <= LAST_SLOT));
  }

  #path(index: number): string {
    return join(this.#dir, String(index));
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
