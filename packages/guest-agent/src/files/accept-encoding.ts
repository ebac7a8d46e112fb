export type FileEncoding = 'gzip' | 'identity';

interface Preference {
  readonly coding: string;
  readonly quality: number;
}

function parsePreferences(header: string): Preference[] {
  const preferences = header.split(',').map((item): Preference => {
    const [coding = '', ...parameters] = item.split(';').map((part) => part.trim().toLowerCase());
    const quality = parameters.findLast((parameter) => /^q=\d*\.?\d+$/.test(parameter));
    return { coding, quality: quality === undefined ? 1 : Number(quality.slice(2)) };
  });
  return preferences.sort((a, b) => b.quality - a.quality);
}

/** Whether the client takes a body that is not encoded at all: unless it says so expressly, it does. */
export function acceptsIdentity(header: string | undefined): boolean {
  return !parsePreferences(header ?? '').some(({ coding, quality }) => coding === 'identity' && quality === 0);
}

/**
 * The coding of a download (envd-interface.md, section 5.1): the supported one that the client likes best, the first
 * named among equals; `*` means identity unless that is refused. Undefined: there is none that both sides know.
 */
export function negotiateEncoding(header: string | undefined): FileEncoding | undefined {
  if (!header) return 'identity';
  const identity = acceptsIdentity(header);
  for (const { coding, quality } of parsePreferences(header)) {
    if (quality === 0) continue;
    if (coding === 'gzip' || coding === 'identity') return coding;
    if (coding === '*') return identity ? 'identity' : 'gzip';
  }
  return identity ? 'identity' : undefined;
}
