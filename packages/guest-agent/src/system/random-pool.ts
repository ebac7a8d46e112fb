import { closeSync, openSync, readSync } from 'node:fs';
import { checked, libc, SystemCallError } from './libc.ts';

const DEVICE = '/dev/urandom';
/** <linux/random.h> */
const RNDADDENTROPY = 0x4008_5203;
const RNDRESEEDCRNG = 0x5207;
const HEADER_BYTES = 8;

/**
 * The kernel's random pool (random(4)). Machines that were restored from one snapshot have the same pool and would draw
 * the same numbers until the kernel reseeds itself, a minute later.
 */
export class RandomPool {
  readonly #ioctl: (fd: number, request: number, argument: Buffer | null) => number = libc().func(
    'int ioctl(int fd, unsigned long request, void *argument)',
  );

  /**
   * Mixes `entropy` in, counted as fully random, and makes the kernel draw from the new pool at once: writing alone
   * changes nothing of what getrandom(2) returns next. Empty: only the latter. Needs root. Throws SystemCallError.
   */
  reseed(entropy: Uint8Array): void {
    const fd = openSync(DEVICE, 'r');
    try {
      if (entropy.length > 0) {
        // struct rand_pool_info: bits to credit, bytes that follow, the bytes.
        const info = Buffer.alloc(HEADER_BYTES + entropy.length);
        info.writeInt32LE(entropy.length * 8, 0);
        info.writeInt32LE(entropy.length, 4);
        info.set(entropy, HEADER_BYTES);
        checked('ioctl RNDADDENTROPY', this.#ioctl(fd, RNDADDENTROPY, info));
      }
      checked('ioctl RNDRESEEDCRNG', this.#ioctl(fd, RNDRESEEDCRNG, null));
    } catch (error) {
      // The pool is not ready yet, early in a first boot: it seeds itself from what was added, and nobody drew before.
      if (!(error instanceof SystemCallError && error.code === 'ENODATA')) throw error;
    } finally {
      closeSync(fd);
    }
  }
}

/**
 * Random bytes from the kernel, in hexadecimal. Not node:crypto: it draws from a generator in our own memory
 * (`randomUUID` even ahead), which machines restored from one snapshot share, and nothing reseeds that.
 */
export function randomHex(bytes: number): string {
  const fd = openSync(DEVICE, 'r');
  try {
    const buffer = Buffer.alloc(bytes);
    // The device never returns less than 256 bytes when that many are asked for.
    if (readSync(fd, buffer) !== bytes) throw new Error(`${DEVICE} returned too little`);
    return buffer.toString('hex');
  } finally {
    closeSync(fd);
  }
}
