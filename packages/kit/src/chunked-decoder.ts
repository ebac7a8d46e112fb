/** Limit for a size line with its extensions, and for all trailers together. */
const MAX_LINE_BYTES = 16 * 1024;
const MAX_TRAILER_BYTES = 64 * 1024;
/** Sizes of up to 13 hexadecimal digits are exact in a double. */
const MAX_SIZE_DIGITS = 13;

const CR = 0x0d;
const LF = 0x0a;
const SEMICOLON = 0x3b;
const SPACE = 0x20;
const TAB = 0x09;

type State = 'size' | 'extension' | 'size-lf' | 'data' | 'data-cr' | 'data-lf' | 'trailer' | 'trailer-lf' | 'end';

/**
 * Takes the coding `chunked` off a body as it comes, piece by piece. Strict: two readers that understand a body's end
 * differently can be played against each other. Source: RFC 9112, section 7.1.
 */
export class ChunkedDecoder {
  #state: State = 'size';
  #digits = 0;
  #size = 0;
  #lineBytes = 0;
  #trailerBytes = 0;
  /** Bytes of the trailer line that is being read. */
  #trailerLine = 0;

  /** The last chunk and the trailers have come. */
  get ended(): boolean {
    return this.#state === 'end';
  }

  /**
   * Moves what `bytes` holds of the body to its beginning, and answers how long that is and how many bytes belong to the
   * message at all. Undefined when they are no chunked body.
   */
  decode(bytes: Buffer): { readonly length: number; readonly read: number } | undefined {
    let length = 0;
    let at = 0;
    while (at < bytes.length && this.#state !== 'end') {
      if (this.#state === 'data') {
        const count = Math.min(this.#size, bytes.length - at);
        if (at !== length) bytes.copyWithin(length, at, at + count);
        length += count;
        at += count;
        this.#size -= count;
        if (this.#size === 0) this.#state = 'data-cr';
      } else if (!this.#step(bytes[at++] ?? 0)) return undefined;
    }
    return { length, read: at };
  }

  /** One byte of the framing. False when it cannot stand there. */
  #step(byte: number): boolean {
    switch (this.#state) {
      case 'size':
        return this.#stepSize(byte);
      case 'extension':
        if (byte === CR) this.#state = 'size-lf';
        this.#lineBytes += 1;
        return byte !== LF && this.#lineBytes <= MAX_LINE_BYTES;
      case 'size-lf':
        this.#state = this.#size === 0 ? 'trailer' : 'data';
        this.#digits = 0;
        return byte === LF;
      case 'data-cr':
        this.#state = 'data-lf';
        return byte === CR;
      case 'data-lf':
        this.#state = 'size';
        return byte === LF;
      case 'trailer':
        if (byte === CR) this.#state = 'trailer-lf';
        else this.#trailerLine += 1;
        this.#trailerBytes += 1;
        return byte !== LF && this.#trailerBytes <= MAX_TRAILER_BYTES;
      case 'trailer-lf':
        this.#state = this.#trailerLine === 0 ? 'end' : 'trailer';
        this.#trailerLine = 0;
        return byte === LF;
      default:
        return false;
    }
  }

  #stepSize(byte: number): boolean {
    const digit = hexDigit(byte);
    if (digit >= 0) {
      this.#size = this.#size * 16 + digit;
      this.#digits += 1;
      return this.#digits <= MAX_SIZE_DIGITS;
    }
    if (this.#digits === 0) return false;
    this.#lineBytes = 0;
    if (byte === CR) this.#state = 'size-lf';
    else this.#state = 'extension';
    return byte === CR || byte === SEMICOLON || byte === SPACE || byte === TAB;
  }
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
