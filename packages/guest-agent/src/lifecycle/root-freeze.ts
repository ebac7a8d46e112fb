import { freezeFilesystem } from '../system/filesystem-freeze.ts';

/** A host that died meanwhile must not leave a guest that can never write again. */
const WATCHDOG_MS = 10 * 60_000;

/** Keeps the root file system still while the host copies its disk. */
export class RootFreeze {
  #watchdog: NodeJS.Timeout | undefined;

  get isFrozen(): boolean {
    return this.#watchdog !== undefined;
  }

  /** Throws SystemCallError. */
  async freeze(): Promise<void> {
    if (this.isFrozen) return;
    await freezeFilesystem('/', true);
    this.#watchdog = setTimeout(() => {
      console.error('nestbox: nobody has thawed the root file system; it goes on now');
      this.thaw().catch((error: unknown) => console.error('nestbox: thawing failed:', error));
    }, WATCHDOG_MS).unref();
  }

  /** Throws SystemCallError. */
  async thaw(): Promise<void> {
    if (!this.isFrozen) return;
    clearTimeout(this.#watchdog);
    await freezeFilesystem('/', false);
    this.#watchdog = undefined;
  }
}
