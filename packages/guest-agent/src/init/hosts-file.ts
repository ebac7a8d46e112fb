import { editFile } from '../system/edit-file.ts';

const HOSTS = '/etc/hosts';
const LOCALHOST = '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n';

/**
 * Returns the text of a hosts(5) file in which `name` means `address`: our earlier line for the same `purpose` goes, and
 * everything else stays as it is.
 */
export function withHost(text: string, purpose: string, address: string, name: string): string {
  return `${withoutHost(text, purpose)}${address}\t${name}\t${mark(purpose)}\n`;
}

/** The same without our line for `purpose`. */
export function withoutHost(text: string, purpose: string): string {
  const kept = text.split('\n').filter((line) => line !== '' && !line.endsWith(mark(purpose)));
  return kept.length === 0 ? '' : `${kept.join('\n')}\n`;
}

/** Sets one name in /etc/hosts, which is made when it is missing. Throws Node's error when it cannot be written. */
export function setHost(purpose: string, address: string, name: string, path = HOSTS): void {
  editFile(path, (text) => withHost(text || LOCALHOST, purpose, address, name));
}

/** Takes our name for `purpose` out of /etc/hosts. Throws Node's error when that cannot be read or written. */
export function forgetHost(purpose: string, path = HOSTS): void {
  editFile(path, (text) => withoutHost(text, purpose));
}

function mark(purpose: string): string {
  return `# nestbox: ${purpose}`;
}
