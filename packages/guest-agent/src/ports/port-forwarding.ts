import { TCP_LISTEN, type TcpSocket } from '../system/socket-diag.ts';
import { Forwarder } from './forwarder.ts';
import { hexAddress, isAnyAddress, isLoopback } from './tcp-address.ts';

const SCAN_INTERVAL_MS = 1_000;

/**
 * The ports that only programs of this machine can reach, each with the address family to dial. `bindAddress` is in hexadecimal, as those of
 * the sockets are.
 */
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
  readonly #bindDigits: string;
  readonly #listSockets: (states: readonly number[]) => readonly TcpSocket[];
  readonly #forwarders = new Map<number, Forwarder>();
  #timer: NodeJS.Timeout | undefined;
  #toldError: string | undefined;

  constructor(bindAddress: string, listSockets: (states: readonly number[]) => readonly TcpSocket[]) {
    this.#bindAddress = bindAddress;
    this.#bindDigits = hexAddress(bindAddress);
    this.#listSockets = listSockets;
  }

  /** Looks at once and then regularly; harmless when it runs already. */
  start(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setInterval(() => this.#tick(), SCAN_INTERVAL_MS);
    this.#timer.unref();
    this.#tick();
  }

  /** Stops looking and closes every forwarded connection. */
  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    for (const forwarder of this.#forwarders.values()) forwarder.close();
    this.#forwarders.clear();
  }

  /** One look at the sockets. Throws what looking at them throws. */
  scan(): void {
    const foreign = this.#listSockets([TCP_LISTEN]).filter(
      ({ localAddress, localPort }) => localAddress !== this.#bindDigits || !this.#forwarders.has(localPort),
    );
    const wanted = loopbackPorts(foreign, this.#bindDigits);
    for (const [port, forwarder] of this.#forwarders) {
      if (wanted.get(port) === forwarder.family && !forwarder.isClosed) continue;
      forwarder.close();
      this.#forwarders.delete(port);
    }
    for (const [port, family] of wanted) {
      if (!this.#forwarders.has(port)) this.#forwarders.set(port, new Forwarder(this.#bindAddress, port, family));
    }
  }

  /** The same flaw is told once, not each second. */
  #tick(): void {
    try {
      this.scan();
      this.#toldError = undefined;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      if (message !== this.#toldError) console.error('nestbox: looking for listening ports failed:', message);
      this.#toldError = message;
    }
  }
}
