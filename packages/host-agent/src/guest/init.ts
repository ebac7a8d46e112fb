import { randomBytes, randomUUID } from 'node:crypto';
import { GUEST_RESTORE } from '@nestbox/contract';
import { moveClock } from './clock-sync.ts';
import type { GuestConnection } from './guest-connection.ts';
import { GuestError } from './guest-error.ts';
import { hostTimeUs, timestampNow } from './host-clock.ts';
import { callRest, type RestAnswer } from './rest-call.ts';

export interface GuestInit {
  readonly sandboxId?: string;
  readonly templateId?: string;
  readonly envVars?: Readonly<Record<string, string>>;
  readonly defaultUser?: string;
  readonly defaultWorkdir?: string;
  readonly proxyDomain?: string;
}

/** Twice what the kernel's pool holds. */
const ENTROPY_BYTES = 64;

/**
 * Tells a booted or restored guest the time and who it is, and gives it randomness that no sibling from the same snapshot
 * has. Each call is the beginning of a new life to the guest: it lets go of every connection but this one. The token is
 * the connection's own. Answers the envd version that the guest agent names, if it does. Throws GuestError.
 */
export async function initGuest(
  guest: GuestConnection,
  init: GuestInit,
  signal?: AbortSignal,
): Promise<{ readonly envdVersion: string | undefined }> {
  const answer = (await tellQuickly(guest, init, signal)) ?? (await tellByBody(guest, init, signal));
  // The guest closes all others: taking one now for the next call could only fail.
  guest.closeIdle(answer.socket);
  evenOut(guest, Date.now(), answer.headers['x-nestbox-clock-ms'], signal);
  const version = answer.headers['x-envd-version'];
  return { envdVersion: typeof version === 'string' ? version : undefined };
}

/** Of a guest agent that does not know the quick form, and has another token than it is about to get. */
const UNKNOWN = new Set([401, 404]);

/** Undefined: it is too much for headers, or the guest agent is from before there was this form. */
async function tellQuickly(
  guest: GuestConnection,
  init: GuestInit,
  signal: AbortSignal | undefined,
): Promise<RestAnswer | undefined> {
  const { headers: names, path, maxBytes } = GUEST_RESTORE;
  const headers: Record<string, string> = {
    [names.time]: String(Math.round(hostTimeUs())),
    [names.lifecycleId]: randomUUID(),
    [names.entropy]: randomBytes(ENTROPY_BYTES).toString('base64'),
    // A guest agent that knows this form takes no body; one that does not is to read none.
    'content-length': '0',
  };
  const { envVars, ...named } = init;
  const told = { accessToken: guest.accessToken, envVars: envVars && variablesText(envVars), ...named };
  let bytes = 0;
  for (const [name, value] of Object.entries(told)) {
    if (value === undefined) continue;
    const encoded = encodeURIComponent(value);
    bytes += encoded.length;
    headers[names[name as keyof typeof told]] = encoded;
  }
  if (bytes > maxBytes) return undefined;
  try {
    return await callRest(guest, { method: 'POST', path, headers }, [204], signal);
  } catch (error) {
    if (error instanceof GuestError && UNKNOWN.has(error.status ?? 0)) return undefined;
    throw error;
  }
}

function variablesText(envVars: Readonly<Record<string, string>>): string {
  return Object.keys(envVars).length === 0 ? '' : JSON.stringify(envVars);
}

function tellByBody(guest: GuestConnection, init: GuestInit, signal: AbortSignal | undefined): Promise<RestAnswer> {
  const body = JSON.stringify({
    timestamp: timestampNow(),
    lifecycle_id: randomUUID(),
    entropy: randomBytes(ENTROPY_BYTES).toString('base64'),
    accessToken: guest.accessToken,
    envVars: init.envVars,
    defaultUser: init.defaultUser,
    defaultWorkdir: init.defaultWorkdir,
    sandbox_id: init.sandboxId,
    template_id: init.templateId,
    proxy_domain: init.proxyDomain,
  });
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  return callRest(guest, { method: 'POST', path: '/init', headers, body }, [204], signal);
}

/** Less is lost in how long the answer was on its way. */
const WORTH_CORRECTING_MS = 5;

/**
 * The guest has set its clock to the time of the request, which under emulation took up to some hundred milliseconds to reach it.
 * Not waited for, which would add 150 ms to a create, but on its way before anybody hears of the sandbox: the guest agent takes up requests in
 * the order in which they come, so the first command of a user finds the clock right. A guest that does not take it is
 * compared with the host's clock again soon.
 */
function evenOut(guest: GuestConnection, nowMs: number, guestMs: unknown, signal: AbortSignal | undefined): void {
  if (typeof guestMs !== 'string' || !/^\d{1,15}$/.test(guestMs)) return;
  const behindMs = nowMs - Number(guestMs);
  if (Math.abs(behindMs) < WORTH_CORRECTING_MS) return;
  moveClock(guest, behindMs, signal).catch(() => undefined);
}
