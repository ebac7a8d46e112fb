import { parseSandboxId } from './ids.ts';

/** A port of a sandbox, as a request names it. */
export interface SandboxAddress {
  readonly sandboxId: string;
  /** 1…65535 */
  readonly port: number;
}

/** Lower-case names of the routing headers that the e2b clients send with every request to a sandbox. */
export const SANDBOX_ID_HEADER = 'e2b-sandbox-id';
export const SANDBOX_PORT_HEADER = 'e2b-sandbox-port';

export function parsePort(value: string): number | undefined {
  if (!/^[0-9]{1,5}$/.test(value)) return undefined;
  const port = Number(value);
  return port >= 1 && port <= 65_535 ? port : undefined;
}

/** Reads `<port>-<sandboxId>.<domain>` (with or without `:port` behind it). Returns undefined for any other host. */
export function parseSandboxHost(host: string): SandboxAddress | undefined {
  const label = host.toLowerCase().split('.', 1)[0] ?? '';
  if (label === host.toLowerCase()) return undefined;
  const dash = label.indexOf('-');
  if (dash < 1) return undefined;
  const port = parsePort(label.slice(0, dash));
  const sandboxId = parseSandboxId(label.slice(dash + 1));
  return port !== undefined && sandboxId !== undefined ? { sandboxId, port } : undefined;
}
