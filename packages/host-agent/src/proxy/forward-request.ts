import type { IncomingMessage } from 'node:http';
import {
  answerEndToEndHeaders,
  type HttpExchange,
  type HttpUpgrade,
  type Passage,
  passExchange,
  passUpgrade,
} from '@nestbox/kit';
import { rewriteLocations } from './headers.ts';
import type { Upstream } from './host-proxy.ts';
import { sendProxyError, sendProxyErrorOnSocket, upstreamFailed } from './proxy-error.ts';
import type { Entry } from './sandbox-room.ts';

/** Sends a request on to the application and its answer back. The Host header stays the client's own unless it is masked. */
export function forwardRequest(exchange: HttpExchange, upstream: Upstream): void {
  const { stream } = exchange.answer;
  const entry = upstream.enter(stream);
  stream.once('close', () => entry.end());
  passExchange(
    exchange,
    passageTo(upstream, entry, exchange, (error) => sendProxyError(exchange, upstreamFailed(error, upstream.target))),
  );
}

/** The same for a request to upgrade. It counts as activity until both sides have ended. */
export function forwardUpgrade(upgrade: HttpUpgrade, upstream: Upstream): void {
  const entry = upstream.enter(upgrade.socket);
  upgrade.socket.once('close', () => entry.end());
  passUpgrade(
    upgrade,
    passageTo(upstream, entry, upgrade, (error) =>
      sendProxyErrorOnSocket(upgrade.socket, upstreamFailed(error, upstream.target)),
    ),
  );
}

function passageTo(
  upstream: Upstream,
  entry: Entry,
  { headers: { host } }: Pick<HttpExchange, 'headers'>,
  failed: (error: Error) => void,
): Passage {
  const { address, pool, target, order } = upstream;
  const { headers, maskedHost } = order;
  if (maskedHost !== undefined) maskHost(headers, maskedHost);
  else if (host === undefined) headers.push('Host', `localhost:${target.port}`);
  return {
    address: { host: address, port: target.port, agent: pool },
    path: target.path,
    headers,
    answerHeaders: (incoming) => {
      entry.answeredBy(incoming.socket);
      return answerHeaders(incoming, host, upstream);
    },
    failed,
  };
}

/** In the place of the client's own, so that there is one. */
function maskHost(headers: string[], maskedHost: string): void {
  for (let i = 0; i + 1 < headers.length; i += 2)
    if (headers[i]?.toLowerCase() === 'host') {
      headers[i + 1] = maskedHost;
      return;
    }
  headers.push('Host', maskedHost);
}

function answerHeaders(incoming: IncomingMessage, requestHost: string | undefined, upstream: Upstream): string[] {
  const headers = answerEndToEndHeaders(incoming);
  if (incoming.headers.location !== undefined)
    rewriteLocations(headers, {
      hosts: upstream.guestNames,
      port: upstream.target.port,
      secure: upstream.order.secure === true,
      requestHost,
      maskedHost: upstream.order.maskedHost,
    });
  return headers;
}
