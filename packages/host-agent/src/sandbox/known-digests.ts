/** More files than this are not kept in mind. */
const MAX_KNOWN = 10_000;

/** What files contained when they were read last, those of late. */
export class KnownDigests {
  readonly #digests = new Map<string, string>();

  get(key: string): string | undefined {
    return this.#digests.get(key);
  }

  set(key: string, digest: string): void {
    this.#digests.delete(key);
    this.#digests.set(key, digest);
    const [oldest] = this.#digests.keys();
    if (this.#digests.size > MAX_KNOWN && oldest !== undefined) this.#digests.delete(oldest);
  }
}
