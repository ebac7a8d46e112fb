import { closeSync, openSync } from 'node:fs';
import { checked, libc } from './libc.ts';

const FIFREEZE = 0xc004_5877;
const FITHAW = 0xc004_5878;

/**
 * Freezes (every write waits, what is on the disk is whole) or thaws the file system of `path`, off the main thread,
 * since freezing first writes everything out. Throws SystemCallError: EBUSY or EINVAL when it is in that state already.
 */
export function freezeFilesystem(path: string, frozen: boolean): Promise<void> {
  const fd = openSync(path, 'r');
  return new Promise<void>((resolve, reject) => {
    libc()
      .func('int ioctl(int fd, unsigned long request, int value)')
      .async(fd, frozen ? FIFREEZE : FITHAW, 0, (error: Error | null, result: number) => {
        try {
          if (error) throw error;
          checked(frozen ? 'ioctl FIFREEZE' : 'ioctl FITHAW', result);
          resolve();
        } catch (failure) {
          reject(failure);
        }
      });
  }).finally(() => closeSync(fd));
}
