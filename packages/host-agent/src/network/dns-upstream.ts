import { readFile } from 'node:fs/promises';
import { isIPv4 } from 'node:net';

/** The resolver that sandboxes' questions go to. */
export interface DnsUpstream {
  readonly address: string;
  /** The file that names it, or "fallback". */
  readonly source: string;
}

/** Asked where the host's own configuration names no resolver that can be reached from another interface. */
export const FALLBACK_RESOLVER = '1.1.1.1';

/** In this order: the file that programs read, then what stands behind a local stub (systemd-resolved, NetworkManager). */
const RESOLV_FILES = [
  '/etc/resolv.conf',
  '/run/systemd/resolve/resolv.conf',
  '/run/NetworkManager/no-stub-resolv.conf',
] as const;

/**
 * The first IPv4 name server of the host that is no loopback stub: a stub on 127.0.0.53 does not answer what comes in by
 * another interface. Never throws.
 */
export async function findDnsUpstream(files: readonly string[] = RESOLV_FILES): Promise<DnsUpstream> {
  for (const file of files) {
    const address = nameServers(await readFile(file, 'utf8').catch(() => '')).find(isUsable);
    if (address !== undefined) return { address, source: file };
  }
  return { address: FALLBACK_RESOLVER, source: 'fallback' };
}

/** Source: resolv.conf(5): keyword at the start of the line, value separated by white space. */
function nameServers(resolvConf: string): string[] {
  return resolvConf.split('\n').flatMap((line) => line.match(/^nameserver[ \t]+(\S+)/)?.[1] ?? []);
}

function isUsable(address: string): boolean {
  return isIPv4(address) && !address.startsWith('127.') && !address.startsWith('0.');
}
