import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** Long enough for a loaded machine; only a test that is about to fail waits for it. */
const SAFETY_MS = 8_000;

interface Connection {
  readonly socket: Socket;
  text: string;
  /** The error's code, or `closed`; undefined while it is open. */
  end: string | undefined;
}

/** Real TCP and UDP ends in the network namespace of this process. Everything that is heard is written down. */
export class Traffic {
  readonly #servers: (Server | UdpSocket)[] = [];
  readonly #connections = new Map<string, Connection>();
  readonly #accepted = new Set<Socket>();
  readonly #heard: string[] = [];

  /**
   * A TCP server that sends back what it gets. Notes `tcp <own address>:<port> from <address>` for each connection, and
   * `tcp error <code>` for each that breaks.
   */
  async listenTcp(address: string, port: number): Promise<void> {
    const server = createServer((socket) => {
      this.#heard.push(`tcp ${socket.localAddress}:${socket.localPort} from ${socket.remoteAddress}`);
      this.#accepted.add(socket);
      socket.once('close', () => this.#accepted.delete(socket));
      socket.on('error', (error) => this.#heard.push(`tcp error ${codeOf(error)}`));
      socket.on('data', (data) => this.#heard.push(`tcp data ${data.toString().slice(0, 80)}`));
      socket.pipe(socket);
    });
    server.listen(port, address);
    await once(server, 'listening');
    this.#servers.push(server);
  }

  /** A UDP server that sends back what it gets. Notes `udp <text> from <address>` for each message. */
  async listenUdp(address: string, port: number): Promise<void> {
    const socket = createSocket('udp4', (message, from) => {
      this.#heard.push(`udp ${message} from ${from.address}`);
      socket.send(message, from.port, from.address);
    });
    socket.bind(port, address);
    await once(socket, 'listening');
    this.#servers.push(socket);
  }

  heard(): string[] {
    return [...this.#heard];
  }

  /** Says something unasked on every connection that the servers have open. */
  speak(text: string): void {
    for (const socket of this.#accepted) socket.write(text);
  }

  /** Sends a text and answers with what came back, or with the error's code (`EHOSTUNREACH`, `ECONNREFUSED`, …). */
  async askTcp(address: string, port: number, text: string): Promise<string> {
    const socket = connect({ host: address, port });
    socket.setTimeout(SAFETY_MS, () => socket.destroy(Object.assign(new Error('timeout'), { code: 'TIMEOUT' })));
    try {
      await once(socket, 'connect');
      socket.end(text);
      let answer = '';
      for await (const piece of socket.setEncoding('utf8')) answer += piece;
      return answer;
    } catch (error) {
      return codeOf(error);
    } finally {
      socket.destroy();
    }
  }

  /** Sends one message and answers with what came back, or with the error's code. */
  async askUdp(address: string, port: number, text: string): Promise<string> {
    const socket = createSocket('udp4');
    try {
      await connectUdp(socket, address, port);
      const answer = once(socket, 'message', { signal: AbortSignal.timeout(SAFETY_MS) });
      // Without a callback Node keeps an error of the sending to itself.
      socket.send(text, (error) => error && socket.emit('error', error));
      const [message] = await answer;
      return String(message);
    } catch (error) {
      return codeOf(error);
    } finally {
      socket.close();
    }
  }

  /** Sends one message, from an address of one's choice, and waits for nothing. */
  async sayUdp(address: string, port: number, text: string, from = '0.0.0.0'): Promise<void> {
    const socket = createSocket('udp4');
    socket.bind(0, from);
    await once(socket, 'listening');
    await new Promise<void>((resolve) => socket.send(text, port, address, () => resolve()));
    socket.close();
  }

  /** Opens a TCP connection that stays. */
  async open(name: string, address: string, port: number): Promise<void> {
    const socket = connect({ host: address, port });
    await once(socket, 'connect');
    const connection: Connection = { socket, text: '', end: undefined };
    socket.on('data', (data) => {
      connection.text += data.toString();
    });
    socket.on('error', (error) => {
      connection.end = codeOf(error);
    });
    socket.on('close', () => {
      connection.end ??= 'closed';
    });
    this.#connections.set(name, connection);
  }

  write(name: string, text: string): void {
    this.#connections.get(name)?.socket.write(text);
  }

  /** Ends our side of a connection, and goes on reading. */
  endOurs(name: string): void {
    this.#connections.get(name)?.socket.end();
  }

  /** Waits until a connection is over: the error's code, or `closed`. */
  async waitForEnd(name: string): Promise<string> {
    const connection = this.#connections.get(name);
    if (connection === undefined) throw new Error(`no connection ${name}`);
    const { socket } = connection;
    const timer = setTimeout(() => {
      connection.end ??= 'TIMEOUT';
      socket.destroy();
    }, SAFETY_MS);
    if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
    clearTimeout(timer);
    return connection.end ?? 'closed';
  }

  /** Everything that came back so far on a connection. */
  textOf(name: string): string {
    return this.#connections.get(name)?.text ?? '';
  }

  /** Waits until a text came back on a connection. */
  async waitFor(name: string, text: string): Promise<void> {
    const connection = this.#connections.get(name);
    if (connection === undefined) throw new Error(`no connection ${name}`);
    const signal = AbortSignal.timeout(SAFETY_MS);
    while (!connection.text.includes(text)) await once(connection.socket, 'data', { signal });
  }

  close(): void {
    for (const server of this.#servers) server.close();
    for (const { socket } of this.#connections.values()) socket.destroy();
  }
}

function connectUdp(socket: UdpSocket, address: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.connect(port, address, () => resolve());
  });
}

function codeOf(error: unknown): string {
  if (error instanceof Error && error.name === 'AbortError') return 'TIMEOUT';
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}
