import { stat } from 'node:fs/promises';

/** What a file takes on this machine's disk, holes left out, in whole MiB. */
export async function allocatedMib(path: string): Promise<number> {
  // stat(2) counts blocks of 512 bytes, whatever the file system's own are.
  return Math.round(((await stat(path)).blocks * 512) / 2 ** 20);
}
