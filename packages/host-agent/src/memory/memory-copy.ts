import { closeSync, openSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { CommandError, runCommand } from '@nestbox/kit';
import { damagedFile } from '../damaged-file.ts';
import { openPageFile, writeFully } from './page-file.ts';
import { PAGE_BYTES } from './page-runs.ts';

/** Copies a memory image: a reflink where the file system has it, else its data with its holes. Throws host_disk_full. */
export async function copyMemory(from: string, to: string, signal: AbortSignal | undefined): Promise<void> {
  await rm(to, { force: true });
  const options = signal === undefined ? {} : { signal };
  await runCommand('cp', ['--reflink=auto', '--sparse=always', '--', from, to], options).catch((cause: unknown) => {
    const isFull = cause instanceof CommandError && cause.stderr.includes('No space left on device');
    throw isFull
      ? new NestboxError('host_disk_full', `The host's disk is full: ${to} cannot be written.`, { cause })
      : cause;
  });
}

/** Puts the pages of a page file at their places in a file of the memory's size. Throws snapshot_damaged. */
export async function applyPagesTo(
  target: string,
  pagesPath: string,
  memoryMib: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { table, forEachPart } = openPageFile(pagesPath);
  if (table.memoryBytes !== memoryMib * 2 ** 20)
    throw damagedFile(pagesPath, 'it is of a guest with another size of memory');
  const file = openSync(target, 'r+');
  try {
    await forEachPart((firstPage, part) => writeFully(file, part, firstPage * PAGE_BYTES), signal);
  } finally {
    closeSync(file);
  }
}
