import { type IncomingMessage, request as openRequest, STATUS_CODES } from 'node:http';
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Logger } from '@nestbox/kit';
import { edgeErrorOnWire, hostUnreachable } from './edge-error.ts';
import { endToEndHeaders, upgradeHeaders } from './forwarded-headers.ts';
import { CONNECT_TIMEOUT_MS } from './host-proxies.ts';
import type { EdgeTarget } from './resolve-target.ts';

/**
 * Passes a WebSocket (or any other upgrade) on to the host's proxy over a connection of its own and joins the two
 * sockets: from the answer on, bytes only. An end of one direction is passed on as an end of that direction.
 */
export function forwardUpgrade(
  target: EdgeTarget,
  request: IncomingMessage,
  client: Socket,
  head: Buffer,
  logger: Logger,
): void {
  const upstream = openRequest({
    method: request.method ?? 'GET',
    path: target.path,
    headers: upgradeHeaders(request),
    setDefaultHeaders: false,
    createConnection: () => connect({ ...connectOptions(target), allowHalfOpen: true }),
  });
  const timer = setTimeout(() => upstream.destroy(new Error('The connection took too long.')), CONNECT_TIMEOUT_MS);
  upstream.once('socket', (socket) => socket.once('connect', () => clearTimeout(timer)));
  upstream.once('close', () => clearTimeout(timer));

  const giveUp = () => upstream.destroy();
  client.once('close', giveUp);
  client.on('error', giveUp);
  upstream.once('error', (error) => {
    if (client.destroyed) return;
    logger.warn({ err: error, hostId: target.proxy.hostId }, "A host's proxy cannot be reached");
    client.end(edgeErrorOnWire(hostUnreachable(target.address.sandboxId)));
  });
  upstream.once('upgrade', (answer, socket, answerHead) => {
    client.write(answerOnWire(answer, ['Connection', 'Upgrade', 'Upgrade', answer.headers.upgrade ?? '']), 'latin1');
    client.off('close', giveUp);
    client.off('error', giveUp);
    // What came behind the head of each side goes first.
    if (answerHead.length > 0) client.write(answerHead);
    if (head.length > 0) socket.write(head);
    join(client, socket);
  });
  // The application refused: its answer is the client's, and the connection ends with it.
  upstream.once('response', (answer) => {
    client.write(answerOnWire(answer, ['Connection', 'close']), 'latin1');
    answer.on('error', () => client.destroy());
    answer.pipe(client);
  });
  upstream.end();
}

/** Either way, until both directions have ended; an error on one socket ends both. */
function join(a: Socket, b: Duplex): void {
  a.setNoDelay(true);
  a.setTimeout(0);
  a.on('error', () => b.destroy());
  b.on('error', () => a.destroy());
  a.once('close', () => b.destroy());
  b.once('close', () => a.destroy());
  a.pipe(b);
  b.pipe(a);
}

function connectOptions(target: EdgeTarget): NetConnectOpts {
  const { socketPath, host, port } = target.proxy.connection;
  return typeof socketPath === 'string'
    ? { path: socketPath }
    : { host: host ?? '127.0.0.1', port: Number(port), noDelay: true };
}

function answerOnWire(answer: IncomingMessage, connectionHeaders: readonly string[]): string {
  const headers = [...endToEndHeaders(answer.rawHeaders, answer.headers.connection), ...connectionHeaders];
  const status = answer.statusCode ?? 502;
  let text = `HTTP/1.1 ${status} ${answer.statusMessage || (STATUS_CODES[status] ?? '')}\r\n`;
  for (let i = 0; i + 1 < headers.length; i += 2) text += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return `${text}\r\n`;
}
