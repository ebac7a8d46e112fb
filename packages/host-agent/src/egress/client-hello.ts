import { parseDomainName } from '@nestbox/contract';
import type { Sniffed } from './sniffed.ts';

const HANDSHAKE_RECORD = 22;
const CLIENT_HELLO = 1;
const RECORD_HEADER_BYTES = 5;
/** A record's own limit. Source: RFC 8446, 5.1. */
const MAX_RECORD_BYTES = 2 ** 14;
/** Clients use one, or a few; guests may try to keep us busy. */
const MAX_RECORDS = 64;
/** With post-quantum keys and long tickets a hello has a few KiB. */
export const MAX_HELLO_BYTES = 2 ** 16;

const SERVER_NAME = 0;
/** Encrypted Client Hello (RFC 9849), and its predecessor. */
const ENCRYPTED_HELLO: ReadonlySet<number> = new Set([0xfe0d, 0xffce]);

export function looksLikeTls(data: Buffer): boolean {
  return data[0] === HANDSHAKE_RECORD;
}

/**
 * Reads the server name out of the first bytes of a TLS connection; nothing of them is changed. A hello may lie in several
 * records. One that is encrypted names a server that nobody on the way can see, so it is refused, and so is one without a
 * name. Never throws.
 */
export function readClientHello(data: Buffer): Sniffed {
  const message = collectMessage(data);
  if (!Buffer.isBuffer(message)) return message;
  try {
    return readMessage(new Reader(message));
  } catch (error) {
    if (error instanceof RangeError) return { kind: 'refused', why: 'its TLS hello is broken' };
    throw error;
  }
}

/** The body of the first handshake message, put together from its records. */
function collectMessage(data: Buffer): Buffer | Sniffed {
  const fragments: Buffer[] = [];
  let collected = 0;
  for (let at = 0; ; ) {
    if (data.length < at + RECORD_HEADER_BYTES) return tooShort(data);
    const length = data.readUInt16BE(at + 3);
    if (data[at] !== HANDSHAKE_RECORD || data[at + 1] !== 3 || length === 0 || length > MAX_RECORD_BYTES)
      return { kind: 'refused', why: 'its TLS hello is broken' };
    const end = at + RECORD_HEADER_BYTES + length;
    const fragment = data.subarray(at + RECORD_HEADER_BYTES, end);
    fragments.push(fragment);
    if (fragments.length > MAX_RECORDS) return { kind: 'refused', why: 'its TLS hello is in too many pieces' };
    collected += fragment.length;
    const start = Buffer.concat(fragments, Math.min(collected, 4));
    if (start.length >= 1 && start[0] !== CLIENT_HELLO) return { kind: 'refused', why: 'it begins with no TLS hello' };
    if (start.length === 4) {
      const size = start.readUIntBE(1, 3);
      if (size > MAX_HELLO_BYTES) return { kind: 'refused', why: 'its TLS hello is too long' };
      if (collected >= 4 + size) return Buffer.concat(fragments, collected).subarray(4, 4 + size);
    }
    if (data.length < end) return tooShort(data);
    at = end;
  }
}

function tooShort(data: Buffer): Sniffed {
  // A hello of one byte a record would have six times its size.
  return data.length > 6 * MAX_HELLO_BYTES
    ? { kind: 'refused', why: 'its TLS hello is too long' }
    : { kind: 'incomplete' };
}

function readMessage(hello: Reader): Sniffed {
  hello.take(2 + 32);
  hello.take(hello.number(1));
  hello.take(hello.number(2));
  hello.take(hello.number(1));
  const extensions = hello.isAtEnd ? new Reader(Buffer.alloc(0)) : new Reader(hello.take(hello.number(2)));
  let name: string | undefined;
  let encrypted = false;
  while (!extensions.isAtEnd) {
    const type = extensions.number(2);
    const body = extensions.take(extensions.number(2));
    if (ENCRYPTED_HELLO.has(type)) encrypted = true;
    if (type !== SERVER_NAME) continue;
    if (name !== undefined) return { kind: 'refused', why: 'it names its server twice' };
    const list = new Reader(body);
    const names = new Reader(list.take(list.number(2)));
    const kind = names.number(1);
    name = names.take(names.number(2)).toString('latin1');
    if (kind !== 0 || !names.isAtEnd || !list.isAtEnd) return { kind: 'refused', why: 'its TLS server name is broken' };
  }
  const server = name === undefined ? undefined : parseDomainName(name);
  if (encrypted) return { kind: 'refused', why: 'its TLS hello is encrypted (ECH)', name: server };
  if (name === undefined) return { kind: 'refused', why: 'its TLS hello names no server' };
  if (server === undefined) return { kind: 'refused', why: 'its TLS server name is none' };
  return { kind: 'named', protocol: 'tls', name: server };
}

/** Reads on and throws RangeError at the end. */
class Reader {
  readonly #data: Buffer;
  #at = 0;

  constructor(data: Buffer) {
    this.#data = data;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#data.length;
  }

  number(bytes: 1 | 2): number {
    return this.take(bytes).readUIntBE(0, bytes);
  }

  take(bytes: number): Buffer {
    if (this.#at + bytes > this.#data.length) throw new RangeError('the data ends early');
    this.#at += bytes;
    return this.#data.subarray(this.#at - bytes, this.#at);
  }
}
