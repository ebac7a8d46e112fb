import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { HostService } from '@nestbox/contract/host';
import { HOST_TOKEN_HEADER, Http1Exchange, type Logger, RequestsUnderWay, UNCOUNTED } from '@nestbox/kit';
import type { HostAgent } from '../host-agent.ts';
import { sendProxyError, sendProxyErrorOnSocket } from '../proxy/proxy-error.ts';
import {
  type ListenAddress,
  type Listener,
  listen,
  PROXY_SERVER_OPTIONS,
  serveProxyRequest,
  serveProxyUpgrade,
} from '../proxy/proxy-server.ts';

const UNAUTHORIZED = {
  code: 401,
  error_code: 'unauthorized',
  message: `The token of this host is missing or wrong (header ${HOST_TOKEN_HEADER}).`,
} as const;

/** A stream that lasts as long as the control plane does. */
const WATCH_PATH = `/${HostService.typeName}/${HostService.method.watchSandboxes.name}`;

export interface HostListener extends Listener {
  /** Takes no new connections, and waits for calls under way; what then is left, and proxy traffic, ends with `close`. */
  drain(timeoutMs: number): Promise<void>;
}

/**
 * host.v1 and proxy traffic on one listener, for a control plane on another machine. `token` goes with each request, in
 * HOST_TOKEN_HEADER or, for RPC, as a bearer; undefined only where the listener is private (a unix socket).
 */
export async function listenForControlPlane(
  host: Pick<HostAgent, 'routes' | 'proxy'>,
  address: ListenAddress,
  token: string | undefined,
  logger: Logger,
): Promise<HostListener> {
  const calls = new RequestsUnderWay();
  const rpc = connectNodeAdapter({ routes: host.routes });
  const server = createServer(PROXY_SERVER_OPTIONS);
  server.maxHeadersCount = UNCOUNTED;
  const handle = (request: IncomingMessage, response: ServerResponse) => {
    if (!isAllowed(request, token)) sendProxyError(new Http1Exchange(request, response), UNAUTHORIZED);
    else if (isForProxy(request)) serveProxyRequest(host.proxy, request, response);
    else {
      if (request.url !== WATCH_PATH) calls.track(response);
      if (calls.isEnding) response.shouldKeepAlive = false;
      rpc(request, response);
    }
  };
  server.on('request', handle);
  server.on('checkContinue', (request, response) => {
    if (!isForProxy(request)) response.writeContinue();
    handle(request, response);
  });
  server.on('upgrade', (request, socket, head) => {
    if (isAllowed(request, token)) serveProxyUpgrade(host.proxy, request, socket, head);
    else sendProxyErrorOnSocket(socket, UNAUTHORIZED);
  });
  const listener = await listen(server, address, logger);
  return {
    ...listener,
    drain: async (timeoutMs) => {
      server.close();
      await calls.ended(timeoutMs);
    },
  };
}

function isForProxy(request: IncomingMessage): boolean {
  return request.url?.startsWith('/proxy/') === true;
}

/** For proxy traffic, Authorization is the application's own. */
function isAllowed(request: IncomingMessage, token: string | undefined): boolean {
  if (token === undefined) return true;
  const own = request.headers[HOST_TOKEN_HEADER];
  const bearer = isForProxy(request) ? undefined : /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1];
  const given = typeof own === 'string' ? own : bearer;
  return given !== undefined && timingSafeEqual(digest(given), digest(token));
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
