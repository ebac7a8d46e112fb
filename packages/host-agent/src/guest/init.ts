import { randomUUID } from 'node:crypto';
import type { GuestConnection } from './guest-connection.ts';
import { callRest } from './rest-call.ts';

export interface GuestInit {
  readonly sandboxId?: string;
  readonly templateId?: string;
  readonly envVars?: Readonly<Record<string, string>>;
  readonly defaultUser?: string;
  readonly defaultWorkdir?: string;
  readonly proxyDomain?: string;
}

/**
 * Tells a booted or restored guest the time and who it is. The token is the connection's own; a guest that has one
 * already takes no other. Answers the envd version that the guest agent names, if it does. Throws GuestError.
 */
export async function initGuest(
  guest: GuestConnection,
  init: GuestInit,
  signal?: AbortSignal,
): Promise<{ readonly envdVersion: string | undefined }> {
  const body = JSON.stringify({
    timestamp: timestampNow(),
    lifecycle_id: randomUUID(),
    accessToken: guest.endpoint.accessToken,
    envVars: init.envVars,
    defaultUser: init.defaultUser,
    defaultWorkdir: init.defaultWorkdir,
    sandbox_id: init.sandboxId,
    template_id: init.templateId,
    proxy_domain: init.proxyDomain,
  });
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  const answer = await callRest(guest, { method: 'POST', path: '/init', headers, body }, [204], signal);
  const version = answer.headers['x-envd-version'];
  return { envdVersion: typeof version === 'string' ? version : undefined };
}

/** RFC 3339 with nanoseconds, UTC. Node's wall clock has sub-millisecond digits only as an origin and an offset. */
export function timestampNow(): string {
  const microseconds = Math.round((performance.timeOrigin + performance.now()) * 1000);
  // performance.now() does not follow a clock that was set; then the coarser clock is the right one.
  const drifted = Math.abs(microseconds / 1000 - Date.now()) > 2;
  const value = drifted ? Date.now() * 1000 : microseconds;
  const seconds = new Date(Math.floor(value / 1_000_000) * 1000).toISOString().slice(0, 19);
  return `${seconds}.${String((value % 1_000_000) * 1000).padStart(9, '0')}Z`;
}
