import { closeSync, constants, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';

const MODE = 0o644;

/**
 * Edits a small text file, which is made when it is missing; one that stays as it was is not written. In place, without emptying it first: ext4
 * writes a file that was emptied to the disk at once (auto_da_alloc, ext4(5)), and a guest that was just restored goes through all of that code for
 * the first time. Throws Node's error when it cannot be read or written.
 */
export function editFile(path: string, edit: (text: string) => string): void {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, MODE);
  try {
    const before = readFileSync(fd, 'utf8');
    const after = edit(before);
    if (after === before) return;
    const bytes = Buffer.from(after);
    let written = 0;
    while (written < bytes.length) written += writeSync(fd, bytes, written, bytes.length - written, written);
    if (bytes.length < Buffer.byteLength(before)) ftruncateSync(fd, bytes.length);
  } finally {
    closeSync(fd);
  }
}
