import { Agent, type IncomingMessage, request as openRequest, type RequestOptions, STATUS_CODES } from 'node:http';
import { type Duplex, pipeline } from 'node:stream';
import type { HttpUpgrade } from './http-exchange.ts';
import { hasUnknownCoding } from './http-headers.ts';
import { MAX_HEADER_BYTES, type Passage, UNCOUNTED, unknownCoding } from './pass-exchange.ts';

/**
 * Sends a request to upgrade on and, when the application agrees, joins the two connections: from its answer on, bytes
 * only. A request that it refuses is answered and closed: what the client sends afterwards must not reach the application
 * unread, past the checks of paths.
 */
export function passUpgrade({ method, headers, socket: client, head }: HttpUpgrade, passage: Passage): void {
  const upgrade = headers.upgrade ?? '';
  const outgoing = openRequest({
    ...onNewConnection(passage.address),
    method,
    path: passage.path,
    headers: [...passage.headers, 'Connection', 'Upgrade', 'Upgrade', upgrade],
    setDefaultHeaders: false,
    maxHeaderSize: MAX_HEADER_BYTES,
  });
  outgoing.maxHeadersCount = UNCOUNTED;
  let answered = false;
  const giveUp = () => outgoing.destroy();
  client.once('close', giveUp);
  client.on('error', giveUp);
  outgoing.once('upgrade', (incoming, upstream, upstreamHead) => {
    answered = true;
    client.off('close', giveUp);
    client.off('error', giveUp);
    const agreed = incoming.headers.upgrade ?? upgrade;
    client.write(answerHead(incoming, passage, ['Connection', 'Upgrade', 'Upgrade', agreed]), 'latin1');
    // What came behind the head of each side goes first.
    if (upstreamHead.length > 0) client.write(upstreamHead);
    if (head.length > 0) upstream.write(head);
    join(client, upstream);
  });
  outgoing.once('response', (incoming) => {
    answered = true;
    if (hasUnknownCoding(incoming.headers)) {
      incoming.destroy();
      passage.failed(unknownCoding(incoming));
      return;
    }
    client.write(
      answerHead(incoming, passage, [
        'Connection',
        incoming.statusCode === 426 && incoming.headers.upgrade !== undefined ? 'Upgrade, close' : 'close',
      ]),
      'latin1',
    );
    pipeline(incoming, client, () => client.destroy());
  });
  outgoing.on('error', (error) => {
    if (!answered && !client.destroyed) passage.failed(error);
  });
  outgoing.end();
}

/** It is not given back, and one that had waited may be closed by the other side just as it is taken. */
function onNewConnection({ agent, ...address }: Passage['address']): RequestOptions {
  if (!(agent instanceof Agent)) return { ...address, agent };
  return { ...address, createConnection: (options, callback) => agent.createConnection(options, callback) };
}

/**
 * Both ways until the application has ended its side and all of it is with the client, or either breaks; a client that ends
 * its side can still read. A pipeline for the client's side too would end the client with the application, before it has
 * read everything.
 */
function join(client: Duplex, upstream: Duplex): void {
  // Pipes, the listener and the pool each watch the end of the connection: more than Node's default, and no leak.
  client.setMaxListeners(20);
  upstream.setMaxListeners(20);
  pipeline(upstream, client, () => {
    client.destroy();
    upstream.destroy();
  });
  client.pipe(upstream);
  upstream.on('error', () => upstream.destroy());
  // What the client still says is for nobody; unread, it would make the system take back what the client has not read.
  upstream.once('close', () => client.resume());
}

/** The body's length is told by closing: Node has taken the body's own coding off. */
function answerHead(incoming: IncomingMessage, passage: Passage, connection: readonly string[]): string {
  const { statusCode: status = 502, statusMessage } = incoming;
  const headers = [...passage.answerHeaders(incoming), ...connection];
  let text = `HTTP/1.1 ${status} ${statusMessage || (STATUS_CODES[status] ?? '')}\r\n`;
  for (let i = 0; i + 1 < headers.length; i += 2) text += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return `${text}\r\n`;
}
