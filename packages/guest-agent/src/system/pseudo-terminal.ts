import { closeSync, constants, openSync } from 'node:fs';
import { checked, libc } from './libc.ts';

const TIOCSPTLCK = 0x4004_5431;
const TIOCGPTN = 0x8004_5430;
const TIOCSWINSZ = 0x5414;

export interface TerminalSize {
  readonly cols: number;
  readonly rows: number;
}

/** Pseudo-terminals (pts(4)). */
export class PseudoTerminals {
  readonly #ioctlInt: (fd: number, request: number, value: number[]) => number = libc().func(
    'int ioctl(int fd, unsigned long request, _Inout_ int *value)',
  );
  readonly #ioctlBuffer: (fd: number, request: number, value: Uint16Array) => number = libc().func(
    'int ioctl(int fd, unsigned long request, void *value)',
  );

  /** Opens a terminal that belongs to the thread's present user. The master is non-blocking and close-on-exec. */
  open(size: TerminalSize): { masterFd: number; path: string } {
    const masterFd = openSync('/dev/ptmx', constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
    try {
      checked('ioctl TIOCSPTLCK', this.#ioctlInt(masterFd, TIOCSPTLCK, [0]));
      const number = [0];
      checked('ioctl TIOCGPTN', this.#ioctlInt(masterFd, TIOCGPTN, number));
      this.resize(masterFd, size);
      return { masterFd, path: `/dev/pts/${number[0]}` };
    } catch (error) {
      closeSync(masterFd);
      throw error;
    }
  }

  /** Sets the size and lets the kernel tell the foreground processes by SIGWINCH. */
  resize(masterFd: number, { cols, rows }: TerminalSize): void {
    checked('ioctl TIOCSWINSZ', this.#ioctlBuffer(masterFd, TIOCSWINSZ, Uint16Array.of(rows, cols, 0, 0)));
  }
}
