/** What one read of a large body can hold: the more, the fewer turns, and each of them still takes well below a millisecond. */
const BULK_BYTES = 256 * 1024;
/** More are rarely on the way at once; the rest goes to the garbage collector. */
const MAX_SPARE = 16;

const spare: Buffer[] = [];

/**
 * Memory for bodies on their way. Used again and again, since every buffer that V8 must collect brings its next full
 * collection nearer, which stands in the way of all other traffic for tens of milliseconds.
 */
export function takeBulkBuffer(): Buffer {
  return spare.pop() ?? Buffer.allocUnsafeSlow(BULK_BYTES);
}

/** Only when nothing reads from it or writes into it any more. */
export function giveBulkBuffer(buffer: Buffer): void {
  if (spare.length < MAX_SPARE) spare.push(buffer);
}
