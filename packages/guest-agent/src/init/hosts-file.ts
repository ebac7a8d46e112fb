import { readFileSync, writeFileSync } from 'node:fs';

/**
 * Returns the text of a hosts(5) file in which `name` means `address`: our earlier line for the same `purpose` goes, and
 * everything else stays as it is.
 */
export function withHost(text: string, purpose: string, address: string, name: string): string {
  const mark = `# nestbox: ${purpose}`;
  const kept = text.split('\n').filter((line) => line !== '' && !line.endsWith(mark));
  return `${[...kept, `${address}\t${name}\t${mark}`].join('\n')}\n`;
}

const LOCALHOST = '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n';

/** Sets one name in /etc/hosts, which is made when it is missing. Throws Node's error when it cannot be written. */
export function setHost(purpose: string, address: string, name: string, path = '/etc/hosts'): void {
  let text = LOCALHOST;
  try {
    text = readFileSync(path, 'utf8') || LOCALHOST;
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
  writeFileSync(path, withHost(text, purpose, address, name));
}
