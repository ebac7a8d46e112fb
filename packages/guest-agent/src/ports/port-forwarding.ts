import { Forwarder } from './forwarder.ts';
import { readTcpSockets } from './tcp-sockets.ts';
import { isAnyAddress, isLoopback, TCP_LISTEN, type TcpSocket } from './tcp-table.ts';

const SCAN_INTERVAL_MS = 1_000;

/** The ports that only programs of this machine can reach, each with the address family to dial. */
export function loopbackPorts(sockets: readonly TcpSocket[], bindAddress: string): Map<number, 4 | 6> {
  const listening = sockets.filter(({ state }) => state === TCP_LISTEN);
  const ports = new Map<number, 4 | 6>();
  for (const socket of listening.filter(isLoopback)) {
    // IPv4 wins where a server listens on both.
    if (ports.get(socket.localPort) !== 4) ports.set(socket.localPort, socket.family);
  }
  for (const socket of listening.filter(isAnyAddress)) ports.delete(socket.localPort);
  // Ours are on the bind address as well; `PortForwarding` knows them and keeps them.
  for (const { localAddress, localPort } of listening) if (localAddress === bindAddress) ports.delete(localPort);
  return ports;
}

/**
 * Makes servers that listen on localhost alone reachable from outside, on `bindAddress`: looks once a second which ones
 * there are (envd-interface.md, section 6; envd starts socat for each).
 */
export class PortForwarding {
  readonly #bindAddress: string;
  readonly #readSockets: () => Promise<TcpSocket[]>;
  readonly #forwarders = new Map<number, Forwarder>();
  #timer: NodeJS.Timeout | undefined;
  #scanning: Promise<void> | undefined;

  constructor(bindAddress: string, readSockets: () => Promise<TcpSocket[]> = readTcpSockets) {
    this.#bindAddress = bindAddress;
    this.#readSockets = readSockets;
  }

  /** Looks at once and then regularly; harmless when it runs already. */
  start(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setInterval(() => this.#tick(), SCAN_INTERVAL_MS);
    this.#timer.unref();
    this.#tick();
  }

  /** Stops looking and closes every forwarded connection. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    await this.#scanning;
    for (const forwarder of this.#forwarders.values()) forwarder.close();
    this.#forwarders.clear();
  }

  /** One look at the sockets. */
  async scan(): Promise<void> {
    const sockets = await this.#readSockets();
    const foreign = sockets.filter(
      ({ localAddress, localPort }) => localAddress !== this.#bindAddress || !this.#forwarders.has(localPort),
    );
    const wanted = loopbackPorts(foreign, this.#bindAddress);
    for (const [port, forwarder] of this.#forwarders) {
      if (wanted.get(port) === forwarder.family && !forwarder.isClosed) continue;
      forwarder.close();
      this.#forwarders.delete(port);
    }
    for (const [port, family] of wanted) {
      if (!this.#forwarders.has(port)) this.#forwarders.set(port, new Forwarder(this.#bindAddress, port, family));
    }
  }

  #tick(): void {
    if (this.#scanning !== undefined) return;
    this.#scanning = this.scan()
      .catch((error: unknown) => console.error('nestbox: looking for listening ports failed:', error))
      .finally(() => {
        this.#scanning = undefined;
      });
  }
}
