import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import {
  createSecureServer,
  type Http2SecureServer,
  Http2ServerRequest,
  Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2';
import type { Socket } from 'node:net';
import { Http1Exchange, type HttpExchange, http1Upgrade, UNCOUNTED } from '@nestbox/kit';
import type { ListenAddress } from '../config.ts';
import type { CertificatePair } from '../tls/certificate-source.ts';
import { answerError, misdirected } from './edge-error.ts';
import type { EdgeHandler } from './edge-handler.ts';
import { whoServes } from './front-names.ts';
import { Http2Exchange } from './http2-exchange.ts';
import { HEADERS_TIMEOUT_MS, HTTP1_OPTIONS, IDLE_TIMEOUT_MS, isUpgradeToForward } from './listener-limits.ts';
import { answerBrokenRequest, endWith, refusalOf, refuseTunnels } from './refused-requests.ts';

/** Windows of HTTP/2: what may be on the way before the other side has read it. Uploads over a long line want more than 64 KiB. */
const STREAM_WINDOW_BYTES = 512 * 1024;
const CONNECTION_WINDOW_BYTES = 8 * 1024 * 1024;
const MAX_CONCURRENT_STREAMS = 250;
/** What Node may hold for one connection before it refuses further streams. In MB; its default of 10 is less than the windows above. */
const MAX_SESSION_MEMORY_MB = 160;

/** Serves what HTTP/1.1 or HTTP/2 request it gets; `exchange` is the same request as proxies like it. */
export interface FrontApi {
  serve(request: IncomingMessage | Http2ServerRequest, response: ServerResponse | Http2ServerResponse): void;
}

export interface FrontOptions {
  readonly address: ListenAddress;
  /** Base domain, lower case, without a port. */
  readonly domain: string;
  readonly certificate: CertificatePair;
  readonly edge: EdgeHandler;
  readonly api: FrontApi;
}

export interface Front {
  readonly port: number;
  /** New connections get it from now on. */
  useCertificate(pair: CertificatePair): void;
  /** Takes no new connections and no new requests on those of HTTP/2; what is under way goes on. */
  refuseNew(): void;
  /** Ends every connection. */
  close(): Promise<void>;
}

/**
 * Control API and sandboxes on one port, told apart by host name: `api.<domain>`, `<port>-<sandboxId>.<domain>`, and
 * `sandbox.<domain>` with routing headers. TLS; HTTP/2 where the client offers it. Rejects when the address cannot be had.
 */
export async function openFront({ address, domain, certificate, edge, api }: FrontOptions): Promise<Front> {
  const server = createSecureServer({
    ...certificate,
    minVersion: 'TLSv1.2',
    handshakeTimeout: HEADERS_TIMEOUT_MS,
    allowHTTP1: true,
    http1Options: HTTP1_OPTIONS,
    maxHeaderListPairs: 1000,
    maxSessionMemory: MAX_SESSION_MEMORY_MB,
    settings: {
      initialWindowSize: STREAM_WINDOW_BYTES,
      maxConcurrentStreams: MAX_CONCURRENT_STREAMS,
      maxHeaderListSize: HTTP1_OPTIONS.maxHeaderSize,
      enablePush: false,
    },
  });
  // Not among the options of this kind of server, which sets its own.
  Object.assign(server, {
    // The API has nothing to change to, and answers such a request as any other.
    shouldUpgradeCallback: (request: IncomingMessage) =>
      isUpgradeToForward(request) && whoServes(request.headers, domain) !== 'api',
    maxHeadersCount: UNCOUNTED,
  });
  const serve = (request: IncomingMessage | Http2ServerRequest, response: ServerResponse | Http2ServerResponse) => {
    const exchange = exchangeOf(request, response);
    if (exchange === undefined) return;
    const refusal = refusalOf(request);
    if (refusal !== undefined) {
      answerError(exchange, refusal);
      return;
    }
    const server = whoServes(exchange.headers, domain);
    if (server === 'api') api.serve(request, response);
    else if (server === 'sandbox') edge.handle(exchange);
    else answerError(exchange, misdirected(domain));
  };
  for (const event of ['request', 'checkExpectation']) server.on(event, serve);
  server.on('checkContinue', (request: IncomingMessage | Http2ServerRequest, response) => {
    // The API reads bodies itself; for sandboxes, their applications say whether to go on.
    if (whoServes(hostHeaders(request), domain) === 'api') response.writeContinue();
    serve(request, response);
  });
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    const refusal = refusalOf(request);
    if (refusal !== undefined) endWith(socket, refusal);
    else if (whoServes(request.headers, domain) !== 'sandbox') endWith(socket, misdirected(domain));
    else edge.handleUpgrade(http1Upgrade(request, socket, head));
  });
  server.on('clientError', answerBrokenRequest);
  refuseTunnels(server);
  limitSessions(server);
  const sessions = new Set<ServerHttp2Session>();
  server.on('session', (session) => {
    sessions.add(session);
    session.once('close', () => sessions.delete(session));
  });
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.listen(address.port, address.host);
  await once(server, 'listening');
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  server.once('close', resolve);
  const bound = server.address();
  return {
    port: bound !== null && typeof bound === 'object' ? bound.port : address.port,
    useCertificate: (pair) => server.setSecureContext(pair),
    refuseNew: () => {
      server.close();
      for (const session of sessions) session.close();
    },
    close: async () => {
      if (server.listening) server.close();
      for (const socket of sockets) socket.destroySoon();
      await closed;
    },
  };
}

function exchangeOf(
  request: IncomingMessage | Http2ServerRequest,
  response: ServerResponse | Http2ServerResponse,
): HttpExchange | undefined {
  if (request instanceof Http2ServerRequest)
    return response instanceof Http2ServerResponse ? new Http2Exchange(request, response) : undefined;
  return response instanceof Http2ServerResponse ? undefined : new Http1Exchange(request, response);
}

function hostHeaders(request: IncomingMessage | Http2ServerRequest): HttpExchange['headers'] {
  return request instanceof Http2ServerRequest ? { ...request.headers, host: request.authority } : request.headers;
}

/** HTTP/2 has no limits of its own for clients that say nothing, or break off. */
function limitSessions(server: Http2SecureServer): void {
  server.on('session', (session) => {
    let open = 0;
    session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    session.setTimeout(HEADERS_TIMEOUT_MS);
    session.once('stream', () => session.setTimeout(IDLE_TIMEOUT_MS));
    session.on('stream', (stream) => {
      open += 1;
      stream.once('close', () => {
        open -= 1;
      });
    });
    // A stream may say nothing for as long as it likes, a connection without one may not.
    session.on('timeout', () => {
      if (open === 0) session.close();
    });
    session.on('error', () => session.destroy());
  });
}
