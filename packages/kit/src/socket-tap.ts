import { type IpcNetConnectOpts, Socket, type TcpNetConnectOpts } from 'node:net';
import { Duplex } from 'node:stream';
import { giveBulkBuffer, takeBulkBuffer } from './bulk-buffers.ts';

/** Of all sockets together: what is in it is copied out, or passed on, before the next read. */
const SHARED = Buffer.allocUnsafeSlow(64 * 1024);
/** Reads of this size make it worth while that a socket has a buffer of its own, until they are as small as that. */
const BULK_READ_BYTES = 16 * 1024;
const SMALL_READ_BYTES = 4 * 1024;

const END_OF_HEAD = Buffer.from('\n\r\n');
const EMPTY_LINE = Buffer.from('\n\n');
const NOTHING = Buffer.alloc(0);

/**
 * Gets the bytes of a body straight from the socket. They stay as they are until `done` is called, and no more come
 * before that: `done` must not be called when they could not be passed on.
 */
export type BodySink = (bytes: Buffer, done: () => void) => void;

/** `highWaterMark` is passed on to the stream below the socket; the types of Node do not list it. */
export type TappedConnectOptions = (TcpNetConnectOpts | IpcNetConnectOpts) & { readonly highWaterMark?: number };

/** Connects, with a tap between the socket and whoever listens for its data. */
export function connectTapped(options: TappedConnectOptions): Socket {
  return new TappedSocket(options).connect(options);
}

export function tapOf(socket: Socket): SocketTap | undefined {
  return socket instanceof TappedSocket ? socket.tap : undefined;
}

/**
 * Reads nothing while bytes of it are in use: the next ones would come to the same memory. Saying no to more is not enough
 * for that, since Node's streams ask for more by themselves a moment after each push.
 */
class TappedSocket extends Socket {
  readonly tap: SocketTap;

  constructor(options: TappedConnectOptions) {
    const tap: SocketTap = new SocketTap(() => this);
    super({ ...options, onread: tap });
    this.tap = tap;
  }

  override read(size?: number): unknown {
    return this.tap.holds ? Duplex.prototype.read.call(this, size) : super.read(size);
  }

  override _read(size: number): void {
    if (!this.tap.holds) super._read(size);
  }

  override resume(): this {
    if (!this.tap.holds) return super.resume();
    Duplex.prototype.resume.call(this);
    return this;
  }
}

/**
 * Lets Node's HTTP parser have what it must understand, and the body of an answer pass by it: the parser copies every
 * body into buffers of its own, which are garbage a moment later.
 */
export class SocketTap {
  readonly #socket: () => Socket;
  #parser: 'gets bytes' | 'expects a head' | 'had a head' = 'gets bytes';
  /** What the end of a head may have begun with, in the read before. */
  #before = NOTHING;
  #sink: BodySink | undefined;
  #size: 'unknown' | 'large' = 'unknown';
  #own: Buffer | undefined;
  #bytes: 'free' | 'in use' = 'free';

  constructor(socket: () => Socket) {
    this.#socket = socket;
  }

  /** Bytes are in use that were given to a sink: nothing may be read. */
  get holds(): boolean {
    return this.#bytes === 'in use';
  }

  /** To be called with each request on this connection, before its answer can come. */
  expectHead(): void {
    this.#parser = 'expects a head';
    this.#before = NOTHING;
  }

  /** The answer's head is known, and its body goes the usual way. */
  leave(): void {
    this.#parser = 'gets bytes';
  }

  /**
   * From the `response` event, synchronously: everything behind the head goes to `sink` instead of the parser. False when
   * that can no longer be. A body that is known to be large is worth a buffer of its own from the beginning.
   */
  take(sink: BodySink, size: 'unknown' | 'large'): boolean {
    const isBehindHead = this.#parser === 'had a head';
    this.#parser = 'gets bytes';
    if (!isBehindHead) return false;
    this.#sink = sink;
    this.#size = size;
    return true;
  }

  /** The body is over: what comes next is the parser's again. */
  release(): void {
    this.#sink = undefined;
    this.#size = 'unknown';
    this.#own = undefined;
  }

  /** Where the socket's next read goes. The socket calls it right behind `callback`, and that memory is its own until then. */
  buffer = (): Uint8Array => {
    if (this.#size === 'large') this.#own ??= takeBulkBuffer();
    return this.#own ?? SHARED;
  };

  /** What it has read. False stops it until it is resumed. */
  callback = (count: number, buffer: Uint8Array): boolean => {
    // What was in use may be spoilt: better no answer than a wrong one.
    if (this.#bytes === 'in use') return this.#breakOff();
    const own = this.#own;
    if (own !== undefined && (this.#size === 'large' || count >= SMALL_READ_BYTES))
      return this.#give(own.subarray(0, count), () => {
        if (this.#own !== own) giveBulkBuffer(own);
      });
    const bytes = Buffer.from(buffer.subarray(0, count));
    if (own !== undefined) {
      this.#own = undefined;
      giveBulkBuffer(own);
    } else if (this.#sink !== undefined && count >= BULK_READ_BYTES) this.#own = takeBulkBuffer();
    return this.#pass(bytes);
  };

  #pass(bytes: Buffer): boolean {
    const socket = this.#socket();
    let left = bytes;
    let wantsMore = true;
    while (left.length > 0 && !socket.destroyed) {
      if (this.#sink !== undefined) return this.#give(left, () => {});
      // The answer is over, or none was asked for. The next one to use the connection would take it for its own.
      if (socket.listenerCount('data') === 0) return this.#breakOff();
      const head = this.#parser === 'expects a head' ? this.#endOfHead(left) : undefined;
      const part = head === undefined ? left : left.subarray(0, head);
      wantsMore = this.#push(socket, part, head !== undefined);
      left = left.subarray(part.length);
    }
    return wantsMore;
  }

  #push(socket: Socket, bytes: Buffer, endsHead: boolean): boolean {
    // Otherwise the socket would keep the bytes for later, and the parser not have seen them yet.
    const isSeenAtOnce = socket.readableFlowing === true && socket.readableLength === 0;
    if (endsHead && isSeenAtOnce) this.#parser = 'had a head';
    const wantsMore = socket.push(bytes);
    // It was an interim answer's: the one that counts follows.
    if (this.#parser === 'had a head') this.#parser = 'expects a head';
    return wantsMore;
  }

  /** Where a head ends in `bytes`, unless a lenient parser might see another end before that one. */
  #endOfHead(bytes: Buffer): number | undefined {
    const before = this.#before;
    const text = before.length === 0 ? bytes : Buffer.concat([before, bytes]);
    const end = text.indexOf(END_OF_HEAD);
    if (text.subarray(0, end < 0 ? undefined : end + 1).includes(EMPTY_LINE)) {
      this.#parser = 'gets bytes';
      return undefined;
    }
    this.#before = end < 0 ? Buffer.from(text.subarray(-2)) : NOTHING;
    return end < 0 ? undefined : end + END_OF_HEAD.length - before.length;
  }

  /** Answers whether to read on at once: the bytes are passed on already, or were the last ones. */
  #give(bytes: Buffer, free: () => void): boolean {
    // Of its own for each time: the last bytes of one answer may still wait when the next one has begun.
    const turn: { state: 'passing' | 'held' | 'done' } = { state: 'passing' };
    this.#sink?.(bytes, () => {
      free();
      // In another turn: a fast sender would else keep all other traffic waiting.
      if (turn.state === 'held') setImmediate(this.#goOn);
      turn.state = 'done';
    });
    if (turn.state === 'done' || this.#sink === undefined) return true;
    turn.state = 'held';
    this.#bytes = 'in use';
    return false;
  }

  readonly #goOn = () => {
    this.#bytes = 'free';
    const socket = this.#socket();
    if (!socket.destroyed) socket.resume();
  };

  /** Without an error: between two requests nobody listens for one. */
  #breakOff(): false {
    this.#socket().destroy();
    return false;
  }
}
