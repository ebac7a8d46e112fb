/** The watched directories of one tree: watch descriptor to path, relative to the root, which is ''. */
export class WatchedDirectories {
  readonly #paths = new Map<number, string>();

  set(wd: number, path: string): void {
    this.#paths.set(wd, path);
  }

  pathOf(wd: number): string | undefined {
    return this.#paths.get(wd);
  }

  delete(wd: number): void {
    this.#paths.delete(wd);
  }

  all(): number[] {
    return [...this.#paths.keys()];
  }

  /** The watches of `path` and of everything below it. */
  below(path: string): number[] {
    const prefix = `${path}/`;
    const watches: number[] = [];
    for (const [wd, known] of this.#paths) if (known === path || known.startsWith(prefix)) watches.push(wd);
    return watches;
  }

  /** `from` is called `to` now, and `watches` are what was below it. */
  rename(watches: readonly number[], from: string, to: string): void {
    for (const wd of watches) {
      const known = this.#paths.get(wd);
      if (known !== undefined) this.#paths.set(wd, `${to}${known.slice(from.length)}`);
    }
  }
}
