import { rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerOptions, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import {
  endToEndHeaders,
  HOST_ONLY_HEADERS,
  Http1Exchange,
  http1Upgrade,
  type Logger,
  MASKED_HOST_HEADER,
  MAX_HEADER_BYTES,
  type ProxyOrder,
  SECURE_PORT_HEADER,
  UNCOUNTED,
} from '@nestbox/kit';
import type { HostProxy } from './host-proxy.ts';
import { BODY_BUFFER_BYTES } from './upstream-pool.ts';

/** Source: host-system specification, "Proxies". */
const HEADERS_TIMEOUT_MS = 10_000;
const IDLE_TIMEOUT_MS = 620_000;
const TIMEOUT_CHECK_INTERVAL_MS = 2000;

export type ListenAddress = { readonly socketPath: string } | { readonly host: string; readonly port: number };

export interface Listener {
  /** The port that was given for port 0. Undefined on a unix socket. */
  readonly port: number | undefined;
  close(): Promise<void>;
}

/** What every listener with proxy traffic on it needs. */
export const PROXY_SERVER_OPTIONS = {
  headersTimeout: HEADERS_TIMEOUT_MS,
  keepAliveTimeout: IDLE_TIMEOUT_MS,
  connectionsCheckingInterval: TIMEOUT_CHECK_INTERVAL_MS,
  // Uploads take as long as they take.
  requestTimeout: 0,
  maxHeaderSize: MAX_HEADER_BYTES,
  highWaterMark: BODY_BUFFER_BYTES,
  noDelay: true,
  shouldUpgradeCallback: isUpgradeToForward,
} satisfies ServerOptions;

/** Listens for proxy traffic alone. */
export function listenForProxyTraffic(proxy: HostProxy, address: ListenAddress, logger: Logger): Promise<Listener> {
  const server = createServer(PROXY_SERVER_OPTIONS);
  server.maxHeadersCount = UNCOUNTED;
  server.on('request', (request, response) => serveProxyRequest(proxy, request, response));
  server.on('checkContinue', (request, response) => serveProxyRequest(proxy, request, response));
  server.on('upgrade', (request, socket, head) => serveProxyUpgrade(proxy, request, socket, head));
  return listen(server, address, logger);
}

export function serveProxyRequest(proxy: HostProxy, request: IncomingMessage, response: ServerResponse): void {
  proxy.handle(new Http1Exchange(request, response), orderOf(request));
}

export function serveProxyUpgrade(proxy: HostProxy, request: IncomingMessage, socket: Duplex, head: Buffer): void {
  proxy.handleUpgrade(http1Upgrade(request, socket, head), orderOf(request));
}

/** Only the edge can reach this listener, and it lets no client's headers of these names through. */
function orderOf({ url = '', rawHeaders, headers }: IncomingMessage): ProxyOrder {
  const masked = headers[MASKED_HOST_HEADER];
  return {
    target: url,
    headers: endToEndHeaders(rawHeaders, headers.connection, HOST_ONLY_HEADERS),
    maskedHost: typeof masked === 'string' ? masked : undefined,
    secure: headers[SECURE_PORT_HEADER] !== undefined,
  };
}

/** A left-over socket file is replaced: the state folder's lock says that nobody uses it. */
export async function listen(server: Server, address: ListenAddress, logger: Logger): Promise<Listener> {
  if ('socketPath' in address) await rm(address.socketPath, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    const listening = () => {
      server.off('error', reject);
      resolve();
    };
    if ('socketPath' in address) server.listen({ path: address.socketPath }, listening);
    else server.listen({ host: address.host, port: address.port }, listening);
  });
  server.on('error', (error) => logger.error({ err: error }, 'a listener failed'));
  // Node forgets connections that were upgraded, and closing waits for them.
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  const bound = server.address();
  return {
    port: bound !== null && typeof bound === 'object' ? bound.port : undefined,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/**
 * HTTP/2 offers of ordinary clients are declined by ignoring them, and a body cannot be told from the new protocol's
 * bytes: both go on as plain requests.
 */
export function isUpgradeToForward(request: IncomingMessage): boolean {
  if (request.headers['content-length'] !== undefined || request.headers['transfer-encoding'] !== undefined)
    return false;
  return !/\bh2c\b/i.test(request.headers.upgrade ?? '');
}
