/** What an application may call itself, from inside the guest or because it saw the host's address. */
export interface TargetNames {
  /** Addresses and names that mean the guest. */
  readonly hosts: ReadonlySet<string>;
  readonly port: number;
  /** It speaks TLS. */
  readonly secure?: boolean;
  /** Host header of the request: the name that the client knows the application by. */
  readonly requestHost: string | undefined;
  /** What the application was told instead of that; no client knows it. */
  readonly maskedHost?: string | undefined;
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
  const defaultPort = target.secure === true ? 443 : 80;
  // A path that began with two slashes would name another host.
  const inside = `/${rest.replace(/^[/\\]+/, '')}`;
  if (target.maskedHost !== undefined) {
    if (authority.toLowerCase() === target.maskedHost.toLowerCase()) return inside;
  } else if (authority.toLowerCase() === target.requestHost?.toLowerCase())
    // The application does not know by which scheme it was asked, and http is what they guess.
    return /^https:/i.test(location) ? location : inside;
  const named = /^(?:[^@]*@)?(\[[0-9a-f:.]+\]|[^:[\]]+)(?::([0-9]{1,5}))?$/i.exec(authority);
  if (named === null) return location;
  const [, host = '', port] = named;
  if (!target.hosts.has(host.toLowerCase()) || Number(port ?? defaultPort) !== target.port) return location;
  return inside;
}

/** Replaces every Location in a flat list of headers, in place. */
export function rewriteLocations(headers: string[], target: TargetNames): void {
  for (let i = 0; i + 1 < headers.length; i += 2)
    if (headers[i]?.toLowerCase() === 'location') headers[i + 1] = rewriteLocation(headers[i + 1] ?? '', target);
}
