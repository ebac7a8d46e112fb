import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createServer, type Server, type Socket } from 'node:net';
import type { Logger } from '@nestbox/kit';
import { answerQuestion, type DnsGate } from './dns-answer.ts';
import type { NameLookup } from './name-lookup.ts';

/** Questions under way of one sandbox; more are not heard, and asked again by their askers. */
const MAX_PENDING = 256;
const MAX_TCP_CONNECTIONS = 32;
const TCP_IDLE_MS = 10_000;
/** A question with everything that one can have has some hundred. */
const MAX_QUESTION_BYTES = 4096;

/** A sandbox's resolver, over UDP and TCP, on sockets that are there already. */
export class DnsServer {
  readonly #lookup: NameLookup;
  readonly #gate: DnsGate;
  readonly #udp: UdpSocket;
  readonly #tcp: Server;
  readonly #connections = new Set<Socket>();
  #pending = 0;
  #isClosed = false;

  constructor(
    sockets: { readonly udp: number; readonly tcp: number },
    lookup: NameLookup,
    gate: DnsGate,
    logger: Logger,
  ) {
    this.#lookup = lookup;
    this.#gate = gate;
    const onError = (err: Error) => logger.warn({ err }, 'the resolver of a sandbox has trouble');
    this.#udp = createSocket('udp4', (message, from) => {
      // Nobody can be answered there; guests can send from it all the same.
      if (from.port === 0) return;
      void this.#answer(message, 'udp').then((answer) => {
        // A guest that does not listen any more is its own matter.
        if (answer !== undefined && !this.#isClosed) this.#udp.send(answer, from.port, from.address, () => undefined);
      });
    });
    this.#udp.on('error', onError);
    this.#udp.bind({ fd: sockets.udp });
    this.#tcp = createServer((socket) => this.#serve(socket));
    this.#tcp.maxConnections = MAX_TCP_CONNECTIONS;
    this.#tcp.on('error', onError);
    this.#tcp.listen({ fd: sockets.tcp });
    this.#udp.unref();
    this.#tcp.unref();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const socket of this.#connections) socket.destroy();
    await Promise.all([
      new Promise<void>((resolve) => this.#udp.close(() => resolve())),
      new Promise<void>((resolve) => this.#tcp.close(() => resolve())),
    ]);
  }

  async #answer(message: Buffer, over: 'udp' | 'tcp'): Promise<Buffer | undefined> {
    if (this.#pending >= MAX_PENDING) return undefined;
    this.#pending += 1;
    try {
      return await answerQuestion(message, over, this.#lookup, this.#gate);
    } finally {
      this.#pending -= 1;
    }
  }

  /** Each message has its length before it. Source: RFC 1035, 4.2.2. */
  #serve(socket: Socket): void {
    this.#connections.add(socket);
    socket.once('close', () => this.#connections.delete(socket));
    socket.on('error', () => undefined);
    socket.setTimeout(TCP_IDLE_MS, () => socket.destroy());
    let received: Buffer = Buffer.alloc(0);
    socket.on('data', (data: Buffer) => {
      received = Buffer.concat([received, data]);
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const end = 2 + received.readUInt16BE(0);
        const message = received.subarray(2, end);
        received = received.subarray(end);
        void this.#answer(message, 'tcp').then((answer) => {
          if (answer === undefined) socket.destroy();
          else if (!socket.destroyed) socket.write(withLength(answer));
        });
      }
      if (received.length > MAX_QUESTION_BYTES) socket.destroy();
    });
  }
}

function withLength(message: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}
