import { type Client, createClient, type Interceptor } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { GUEST_AGENT_PORT, SANDBOX_ID_HEADER, SANDBOX_PORT_HEADER } from '@nestbox/contract';
import { Process } from '@nestbox/contract/process';
import type { Endpoints } from './endpoints.ts';

export type ProcessClient = Client<typeof Process>;

/** A sandbox as its guest agent is reached. */
export interface GuestAddress {
  readonly sandboxId: string;
  /** Undefined: the sandbox asks for none. */
  readonly accessToken: string | undefined;
  /** Used when the server has no one URL for all sandboxes. */
  readonly domain: string | undefined;
}

/** Seconds between the signs of life that a silent stream carries: proxies on the way close silent connections. */
const KEEPALIVE_PING_SEC = '50';

/** The guest agent's process service, through the edge. `user`: whom commands run as; undefined is the template's default. */
export function connectToGuest(endpoints: Endpoints, guest: GuestAddress, user?: string): ProcessClient {
  const routing: Interceptor = (next) => (request) => {
    const { header } = request;
    header.set(SANDBOX_ID_HEADER, guest.sandboxId);
    header.set(SANDBOX_PORT_HEADER, String(GUEST_AGENT_PORT));
    if (guest.accessToken !== undefined) header.set('X-Access-Token', guest.accessToken);
    // The password is ignored: the access token is what lets us in (envd interface, "User").
    if (user !== undefined) header.set('Authorization', `Basic ${Buffer.from(`${user}:`).toString('base64')}`);
    if (request.stream) header.set('Keepalive-Ping-Interval', KEEPALIVE_PING_SEC);
    return next(request);
  };
  const baseUrl = endpoints.sandboxUrl ?? `https://${GUEST_AGENT_PORT}-${guest.sandboxId}.${guest.domain ?? ''}`;
  return createClient(
    Process,
    createConnectTransport({ baseUrl, httpVersion: '1.1', useBinaryFormat: true, interceptors: [routing] }),
  );
}
