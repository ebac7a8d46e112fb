import { getSystemErrorName } from 'node:util';
import koffi, { type LibraryHandle } from 'koffi';

/**
 * System calls that Node lacks, taken from the C library that Node itself has loaded. Each file beside this one
 * declares the functions of one subject. Nothing is loaded before its first use.
 */
let library: LibraryHandle | undefined;

export function libc(): LibraryHandle {
  library ??= koffi.load('libc.so.6');
  return library;
}

/** A failed system call; `code` is the errno's name, as in Node's own errors. */
export class SystemCallError extends Error {
  override readonly name = 'SystemCallError';
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;

  constructor(syscall: string, errno: number) {
    const code = getSystemErrorName(-errno);
    super(`${syscall}: ${code}`);
    this.code = code;
    this.errno = errno;
    this.syscall = syscall;
  }
}

/** Throws SystemCallError when `result` is negative, else returns it. Call it before anything else can touch errno. */
export function checked(syscall: string, result: number): number {
  if (result < 0) throw new SystemCallError(syscall, koffi.errno());
  return result;
}
