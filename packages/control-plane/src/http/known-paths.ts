/** The methods that each registered path answers, to tell a wrong method (405) from an unknown path (404). */
export class KnownPaths {
  readonly #patterns: { readonly pattern: RegExp; readonly methods: Set<string> }[] = [];

  add(path: string, method: string | string[]): void {
    const pattern = new RegExp(`^${path.replaceAll('.', '\\.').replace(/:[A-Za-z]+/g, '[^/]+')}$`);
    const known = this.#patterns.find((entry) => entry.pattern.source === pattern.source);
    if (known === undefined) this.#patterns.push({ pattern, methods: new Set([method].flat()) });
    else for (const name of [method].flat()) known.methods.add(name);
  }

  /** Sorted; empty when the path is unknown. */
  methodsOf(rawUrl: string): string[] {
    const path = rawUrl.split('?', 1)[0] ?? '';
    const matching = this.#patterns.filter(({ pattern }) => pattern.test(path));
    return [...new Set(matching.flatMap(({ methods }) => [...methods]))].toSorted((a, b) => a.localeCompare(b));
  }
}
