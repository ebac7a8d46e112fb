import koffi from 'koffi';
import { libc, SystemCallError } from './libc.ts';

const WNOHANG = 1;
const ECHILD = 10;

/** How a process ended. */
export type ExitStatus =
  | { readonly kind: 'exited'; readonly code: number }
  | { readonly kind: 'signaled'; readonly signal: number; readonly coreDumped: boolean };

/** Decodes the status word of waitpid(2). */
export function decodeExitStatus(word: number): ExitStatus {
  const signal = word & 0x7f;
  if (signal === 0) return { kind: 'exited', code: (word >> 8) & 0xff };
  return { kind: 'signaled', signal, coreDumped: (word & 0x80) !== 0 };
}

export class ChildWaiter {
  readonly #waitpid: (pid: number, status: number[], options: number) => number = libc().func(
    'int waitpid(int pid, _Out_ int *status, int options)',
  );

  /**
   * Collects child `pid`, or any ended child for -1, without waiting. Returns undefined when none has ended. A pid that
   * is no child of ours throws SystemCallError ECHILD; with -1, having no children is no error.
   */
  collect(pid: number): { pid: number; status: ExitStatus } | undefined {
    const word = [0];
    const found = this.#waitpid(pid, word, WNOHANG);
    if (found > 0) return { pid: found, status: decodeExitStatus(word[0] ?? 0) };
    if (found === 0) return undefined;
    const errno = koffi.errno();
    if (errno === ECHILD && pid === -1) return undefined;
    throw new SystemCallError('waitpid', errno);
  }
}
