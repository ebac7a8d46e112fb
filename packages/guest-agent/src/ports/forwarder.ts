import { connect, createServer, type Server, type Socket } from 'node:net';

/** Passes the connections to one port of `bindAddress` on to the same port of localhost. */
export class Forwarder {
  readonly family: 4 | 6;
  readonly #port: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #closed: boolean = false;

  constructor(bindAddress: string, port: number, family: 4 | 6) {
    this.family = family;
    this.#port = port;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket));
    // Somebody else has the port meanwhile: the next look at the sockets decides again.
    this.#server.on('error', () => this.close());
    this.#server.listen(port, bindAddress);
    this.#server.unref();
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  close(): void {
    this.#closed = true;
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #accept(outside: Socket): void {
    const inside = connect({
      host: this.family === 4 ? '127.0.0.1' : '::1',
      port: this.#port,
      allowHalfOpen: true,
      noDelay: true,
    });
    for (const [from, to] of [
      [outside, inside],
      [inside, outside],
    ] as const) {
      this.#sockets.add(from);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.once('close', () => {
        this.#sockets.delete(from);
        if (from.errored || !from.readableEnded) to.destroy();
      });
    }
  }
}
