import koffi from 'koffi';

/** From Linux, include/uapi/linux/fs.h. */
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

type Seek = (file: number, offset: number, whence: number) => number;

let seek: Seek | undefined;

function loadSeek(): Seek {
  seek ??= koffi.load('libc.so.6').func('int64_t lseek(int, int64_t, int)') as Seek;
  return seek;
}

/** A stretch of a file that is no hole, in bytes. */
export interface Extent {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

/**
 * The next stretch of an open file, of `bytes` bytes, that is no hole; undefined: only holes follow. A file system that knows no holes says that
 * everything is data. Moves the file's position.
 */
export function nextData(file: number, at: number, bytes: number): Extent | undefined {
  const lseek = loadSeek();
  const start = lseek(file, at, SEEK_DATA);
  // ENXIO: no data any more.
  if (start < 0 || start >= bytes) return undefined;
  const end = Math.min(bytes, lseek(file, start, SEEK_HOLE));
  return end <= start ? undefined : { start, end };
}
