import type { IncomingMessage } from 'node:http';
import { type Duplex, pipeline } from 'node:stream';
import { openUpstream } from './forward-request.ts';
import { endToEndHeaders } from './headers.ts';
import type { Upstream } from './host-proxy.ts';
import { sendProxyErrorOnSocket, upstreamFailed } from './proxy-error.ts';

/**
 * Sends a request to upgrade on and, when the application agrees, joins the two connections. One that it refuses is
 * answered and closed: what the client sends afterwards must not reach the application unread, past the checks of paths.
 * Returns the client's socket: ending it ends both.
 */
export function forwardUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, upstream: Upstream): Duplex {
  const endActivity = upstream.beginActivity();
  const headers = endToEndHeaders(request.rawHeaders, request.headers.connection);
  headers.push('Connection', 'Upgrade', 'Upgrade', request.headers.upgrade ?? '');
  socket.once('close', endActivity);
  const outgoing = openUpstream(request, upstream, headers);
  let answered = false;

  socket.once('close', () => outgoing.destroy());
  outgoing.once('upgrade', (incoming, upstreamSocket, upstreamHead) => {
    answered = true;
    socket.write(
      responseHead(incoming, [
        'Connection',
        'Upgrade',
        'Upgrade',
        incoming.headers.upgrade ?? request.headers.upgrade ?? '',
      ]),
    );
    if (upstreamHead.length > 0) socket.write(upstreamHead);
    if (head.length > 0) upstreamSocket.write(head);
    join(socket, upstreamSocket);
  });
  outgoing.once('response', (incoming) => {
    answered = true;
    socket.write(responseHead(incoming, ['Connection', 'close'], ['content-length']));
    pipeline(incoming, socket, () => socket.destroy());
  });
  outgoing.on('error', (error) => {
    if (!answered && !socket.destroyed) sendProxyErrorOnSocket(socket, upstreamFailed(error, upstream.target));
  });
  outgoing.end();
  return socket;
}

/** Both ways until the application ends its side or either breaks; a client that ends its side can still read. */
function join(client: Duplex, upstream: Duplex): void {
  // Two pipelines, the listener and the pool each watch the end of the connection: more than Node's default, and no leak.
  client.setMaxListeners(20);
  upstream.setMaxListeners(20);
  pipeline(upstream, client, () => {
    client.destroy();
    upstream.destroy();
  });
  pipeline(client, upstream, (error) => {
    if (error) upstream.destroy();
  });
}

/** `dropped`: the body's length, which is told by closing; Node has taken the body's own coding off. */
function responseHead(
  incoming: IncomingMessage,
  connection: readonly string[],
  dropped: readonly string[] = [],
): string {
  const lines = [`HTTP/1.1 ${incoming.statusCode} ${incoming.statusMessage}`];
  const headers = [...endToEndHeaders(incoming.rawHeaders, incoming.headers.connection), ...connection];
  for (let i = 0; i + 1 < headers.length; i += 2)
    if (!dropped.includes((headers[i] ?? '').toLowerCase())) lines.push(`${headers[i]}: ${headers[i + 1]}`);
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1').toString('latin1');
}
