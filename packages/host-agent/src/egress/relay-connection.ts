import { Socket } from 'node:net';
import { formatIpv4 } from '@nestbox/contract';
import { RELAY_MARK } from '../network/slot-rules.ts';
import type { Denial } from './denials.ts';
import type { NameLookup } from './name-lookup.ts';
import { type NamespaceSockets, type SocketAddress, SocketError } from './namespace-sockets.ts';
import { sniff } from './sniff.ts';
import type { Sniffed } from './sniffed.ts';

export interface RelayParts {
  readonly sockets: NamespaceSockets;
  readonly lookup: NameLookup;
  readonly netnsName: string;
  readonly isAllowed: (name: string) => boolean;
  readonly denied: (denial: Denial) => void;
}

/** A client says where it wants to go within so long; protocols in which the server speaks first cannot be relayed. */
const HEAD_TIMEOUT_MS = 15_000;
/** Each is looked at together with all before it; a long head comes in some fifty. */
const MAX_PIECES = 256;
const CONNECT_TIMEOUT_MS = 15_000;
/** So long a refused client may take to read why. */
const FAREWELL_MS = 2000;
const KEEP_ALIVE_MS = 60_000;
/** A fatal alert, access_denied. Source: RFC 8446, 6.2. */
const TLS_ALERT = Buffer.from([21, 3, 3, 0, 2, 2, 49]);
const HTTP_REFUSAL = Buffer.from(
  'HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nThe network rules of this sandbox do not allow this host.\n',
);

/** One connection of a guest on its way to a name, which the relay resolves itself. */
export class RelayConnection {
  readonly #parts: RelayParts;
  readonly #guest: Socket;
  readonly #destination: SocketAddress;
  readonly #ending = new AbortController();
  #server: Socket | undefined;
  #name: string | undefined;
  readonly closed: Promise<void>;

  /** Takes over the descriptor of an accepted connection. */
  constructor(fd: number, destination: SocketAddress, parts: RelayParts) {
    this.#parts = parts;
    this.#destination = destination;
    this.#guest = adopt(fd);
    this.closed = new Promise((resolve) => this.#guest.once('close', () => resolve()));
    this.#guest.once('close', () => this.#ending.abort());
    // What comes of an error is seen at 'close'.
    this.#guest.on('error', () => undefined);
    void this.#run();
  }

  /** The name that it goes to; undefined as long as it has not said. */
  get name(): string | undefined {
    return this.#name;
  }

  /** Both ends get a reset. */
  reset(): void {
    this.#ending.abort();
    this.#guest.resetAndDestroy();
    this.#server?.resetAndDestroy();
  }

  async #run(): Promise<void> {
    const said = await readFirst(this.#guest);
    if (said === undefined) return;
    if (said.result.kind !== 'named') {
      const why = said.result.kind === 'refused' ? said.result.why : 'it does not say where it goes';
      this.#refuse(said.data, why, 'name' in said.result ? said.result.name : undefined);
      return;
    }
    const { result } = said;
    this.#name = result.name;
    if (!this.#parts.isAllowed(result.name)) {
      this.#refuse(said.data, 'this name is not allowed', result.name);
      return;
    }
    const server = await this.#connect(result.name);
    // The rules may have changed meanwhile.
    if (server === undefined || this.#guest.destroyed || !this.#parts.isAllowed(result.name)) {
      server?.destroy();
      this.#guest.resetAndDestroy();
      return;
    }
    this.#server = server;
    const data =
      result.protocol === 'http' ? Buffer.concat([result.head, said.data.subarray(result.headBytes)]) : said.data;
    splice(this.#guest, server, data);
  }

  /** To where the name leads now; where the guest wanted to go counts only among those. Undefined when nobody answers. */
  async #connect(name: string): Promise<Socket | undefined> {
    const { lookup, sockets, netnsName, denied } = this.#parts;
    const { address: wanted, port } = this.#destination;
    try {
      const { open, closed } = await lookup.addresses(name);
      if (open.length === 0 && closed > 0)
        denied({ protocol: 'tcp', name, port, reason: 'this name leads to addresses that are closed to sandboxes' });
      for (const address of open.toSorted((a, b) => Number(b === wanted) - Number(a === wanted))) {
        const limit = AbortSignal.any([this.#ending.signal, AbortSignal.timeout(CONNECT_TIMEOUT_MS)]);
        try {
          return adopt(await sockets.connectTcp(netnsName, { address, port }, RELAY_MARK, limit));
        } catch (error) {
          if (this.#ending.signal.aborted) return undefined;
          // The host itself and its networks are behind rules that only the kernel knows.
          if (error instanceof SocketError && error.code === 'EHOSTUNREACH')
            denied({
              protocol: 'tcp',
              name,
              address: formatIpv4(address),
              port,
              reason: 'its address cannot be reached',
            });
        }
      }
    } catch {
      // The name cannot be resolved any more: as if nobody answered.
    }
    return undefined;
  }

  #refuse(data: Buffer, reason: string, name: string | undefined): void {
    const { address, port } = this.#destination;
    this.#parts.denied({
      protocol: 'tcp',
      address: formatIpv4(address),
      port,
      reason,
      ...(name === undefined ? {} : { name }),
    });
    const answer =
      data[0] === 22 ? TLS_ALERT : /^[A-Z]+ /.test(data.toString('latin1', 0, 20)) ? HTTP_REFUSAL : undefined;
    if (answer === undefined) this.#guest.end();
    else this.#guest.end(answer);
    this.#guest.resume();
    const timer = setTimeout(() => this.#guest.destroy(), FAREWELL_MS).unref();
    this.#guest.once('close', () => clearTimeout(timer));
  }
}

function adopt(fd: number): Socket {
  const socket = new Socket({ fd, allowHalfOpen: true, readable: true, writable: true });
  socket.setNoDelay(true);
  socket.setKeepAlive(true, KEEP_ALIVE_MS);
  return socket;
}

/** Reads until it is clear what is wanted; undefined when the connection ended before that. It is paused afterwards. */
function readFirst(socket: Socket): Promise<{ readonly data: Buffer; readonly result: Sniffed } | undefined> {
  return new Promise((resolve) => {
    let data: Buffer = Buffer.alloc(0);
    const finish = (result: Sniffed | undefined) => {
      clearTimeout(timer);
      socket.off('data', onData).off('end', onEnd).off('close', onClose);
      socket.pause();
      resolve(result && { data, result });
    };
    let pieces = 0;
    const onData = (more: Buffer) => {
      pieces += 1;
      data = data.length === 0 ? more : Buffer.concat([data, more]);
      const result = sniff(data);
      if (result.kind !== 'incomplete') finish(result);
      else if (pieces >= MAX_PIECES) finish({ kind: 'refused', why: 'it says where it goes in too many pieces' });
    };
    const onEnd = () => finish({ kind: 'refused', why: 'it ends before it says where it goes' });
    const onClose = () => finish(undefined);
    const timer = setTimeout(() => finish({ kind: 'refused', why: 'it does not say where it goes' }), HEAD_TIMEOUT_MS);
    timer.unref();
    socket.on('data', onData).on('end', onEnd).on('close', onClose);
  });
}

/** Carries both ways, each until its own end. A reset on one side becomes one on the other. */
function splice(guest: Socket, server: Socket, first: Buffer): void {
  for (const [from, to] of [
    [guest, server],
    [server, guest],
  ] as const) {
    from.on('error', () => to.resetAndDestroy());
    from.once('close', () => {
      if (!from.readableEnded) to.destroy();
    });
  }
  server.write(first);
  guest.pipe(server);
  server.pipe(guest);
}
