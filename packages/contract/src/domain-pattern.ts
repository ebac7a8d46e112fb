/** The longest name that DNS can carry, in its dotted form. Source: RFC 1035, 2.3.4. */
const MAX_NAME_LENGTH = 253;
/** Underscores are in use (`_dmarc`, names of buckets), although RFC 1123 has none. */
const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

/** In small letters and without the dot at the end; undefined when it is no name that DNS could carry. */
export function parseDomainName(text: string): string | undefined {
  const ascii = /^[\x21-\x7e]+$/.test(text) ? text : toAscii(text);
  const name = ascii?.toLowerCase().replace(/\.$/, '');
  if (name === undefined || name.length > MAX_NAME_LENGTH) return undefined;
  const labels = name.split('.');
  if (!labels.every((label) => LABEL.test(label))) return undefined;
  // "1.2.3" or "1.2.3.4.5" is a mistaken address; no top level is a number.
  return /^[0-9]+$/.test(labels.at(-1) ?? '') ? undefined : name;
}

/**
 * A name, `*.name` (every name below it, at any depth, and not itself) or `*` (every name), in small letters; undefined for
 * anything else.
 */
export function parseDomainPattern(text: string): string | undefined {
  if (text === '*') return text;
  if (!text.startsWith('*.')) return parseDomainName(text);
  const name = parseDomainName(text.slice(2));
  return name === undefined ? undefined : `*.${name}`;
}

/** Which names a list of patterns matches. The name must come from parseDomainName. One look-up for each label of it. */
export class DomainPatterns {
  readonly #patterns: ReadonlySet<string>;

  constructor(patterns: readonly string[]) {
    this.#patterns = new Set(patterns);
  }

  matches(name: string): boolean {
    if (this.#patterns.has(name) || this.#patterns.has('*')) return true;
    for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1))
      if (this.#patterns.has(`*${name.slice(dot)}`)) return true;
    return false;
  }
}

/** `bücher.example` as DNS carries it. */
function toAscii(name: string): string | undefined {
  return /[\s/?#@:\\[\]%]/.test(name) ? undefined : URL.parse(`http://${name}/`)?.hostname;
}
