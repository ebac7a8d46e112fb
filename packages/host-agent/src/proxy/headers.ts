/** By this a caller from another machine shows that it may use a host; it is not for the application. */
export const HOST_TOKEN_HEADER = 'x-nestbox-host-token';

/** Headers that belong to one connection and never travel on. Source: RFC 9110, section 7.6.1. */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  HOST_TOKEN_HEADER,
]);

/**
 * The end-to-end headers of a message as Node received them: order, spelling and repetition kept. `connection` is the
 * message's Connection header, which can name more headers of its own connection.
 */
export function endToEndHeaders(rawHeaders: readonly string[], connection: string | undefined): string[] {
  const named = namedByConnection(connection);
  const kept: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? '';
    const lower = name.toLowerCase();
    if (!HOP_BY_HOP.has(lower) && !named?.has(lower)) kept.push(name, rawHeaders[i + 1] ?? '');
  }
  return kept;
}

function namedByConnection(connection: string | undefined): Set<string> | undefined {
  if (connection === undefined) return undefined;
  const named = new Set(connection.split(',').map((token) => token.trim().toLowerCase()));
  // Dropping these would change what the message means or how long it is.
  for (const essential of ['host', 'content-length', 'authorization', 'cookie']) named.delete(essential);
  return named;
}

/** What an application may call itself, from inside the guest or because it saw the host's address. */
export interface TargetNames {
  /** Addresses and names that mean the guest. */
  readonly hosts: ReadonlySet<string>;
  readonly port: number;
  /** Host header of the request: an absolute Location to it is right for the client already. */
  readonly requestHost: string | undefined;
}

/**
 * Keeps a browser inside the sandbox's URL: of an absolute Location to the guest itself only path and query stay, which
 * are right behind whatever name the client reached the sandbox by. All others are left as they are: root-relative ones
 * are right already, since `/proxy/<sandboxId>/<port>` is between edge and host only.
 */
export function rewriteLocation(location: string, target: TargetNames): string {
  const absolute = /^(?:https?:)?\/\/([^/?#\\]*)(.*)$/is.exec(location);
  if (absolute === null) return location;
  const [, authority = '', rest = ''] = absolute;
  if (authority.toLowerCase() === target.requestHost?.toLowerCase()) return location;
  const named = /^(?:[^@]*@)?(\[[0-9a-f:.]+\]|[^:[\]]+)(?::([0-9]{1,5}))?$/i.exec(authority);
  if (named === null) return location;
  const [, host = '', port] = named;
  if (!target.hosts.has(host.toLowerCase()) || Number(port ?? 80) !== target.port) return location;
  // A path that began with two slashes would name another host.
  return `/${rest.replace(/^[/\\]+/, '')}`;
}

/** Replaces every Location in a flat list of headers, in place. */
export function rewriteLocations(headers: string[], target: TargetNames): void {
  for (let i = 0; i + 1 < headers.length; i += 2)
    if (headers[i]?.toLowerCase() === 'location') headers[i + 1] = rewriteLocation(headers[i + 1] ?? '', target);
}

/** Node lets repeated Host headers pass; two programs that read different ones can be played against each other. */
export function hasSeveralHosts(rawHeaders: readonly string[]): boolean {
  let count = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) if (rawHeaders[i]?.toLowerCase() === 'host') count++;
  return count > 1;
}
