const MAX_TAKEN = 1000;

/**
 * Ids under which hosts have VMs waiting. Each is given out once: a host's list may still name one that a create has taken a
 * moment ago. An id whose VM is gone by then is as good as any other.
 */
export class WarmIds {
  readonly #taken = new Set<string>();

  /** Undefined when none of them is free. */
  take(ids: readonly string[]): string | undefined {
    const id = ids.find((each) => !this.#taken.has(each));
    if (id === undefined) return undefined;
    this.#taken.add(id);
    const [oldest] = this.#taken;
    if (this.#taken.size > MAX_TAKEN && oldest !== undefined) this.#taken.delete(oldest);
    return id;
  }
}
