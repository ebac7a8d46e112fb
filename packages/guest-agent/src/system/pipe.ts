import { checked, libc } from './libc.ts';

const O_CLOEXEC = 0o2000000;
const FIONREAD = 0x541b;

/**
 * Real pipes. What Node calls a pipe is a socket pair, and a child cannot reopen that: `echo x > /dev/stderr` would
 * fail with ENXIO.
 */
export class Pipes {
  readonly #pipe2: (fds: number[], flags: number) => number = libc().func('int pipe2(_Out_ int *fds, int flags)');
  readonly #ioctl: (fd: number, request: number, value: number[]) => number = libc().func(
    'int ioctl(int fd, unsigned long request, _Inout_ int *value)',
  );

  /** Both ends are close-on-exec and belong to the thread's present user. */
  open(): { readFd: number; writeFd: number } {
    const fds = [-1, -1];
    checked('pipe2', this.#pipe2(fds, O_CLOEXEC));
    return { readFd: fds[0] ?? -1, writeFd: fds[1] ?? -1 };
  }

  /** How many bytes wait in the pipe (or terminal) to be read. */
  unreadBytes(fd: number): number {
    const value = [0];
    checked('ioctl FIONREAD', this.#ioctl(fd, FIONREAD, value));
    return value[0] ?? 0;
  }
}
