import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { writeFileAtomic } from '@nestbox/kit';
import { z } from 'zod';
import { machineFiles } from './machine-folder.ts';
import { parseJson } from './parse-json.ts';
import { isRawDiskName } from './raw-disks.ts';
import type { DiskSeal } from './snapshot-manifest.ts';

const fileSum = z.object({
  bytes: z.int().nonnegative(),
  /** When it was right last. */
  modifiedMs: z.number(),
  /** As `contentDigest` makes it. */
  digest: z.string().regex(/^[0-9a-f]{64}$/),
});

export type FileSum = z.infer<typeof fileSum>;

/** `disk.sums`: what the files of a disk that nobody writes to contain. Made in the background, so it may be missing, or be of an earlier disk. */
export const diskSums = z.object({
  format: z.literal(1),
  /** Which disk, by `sealKey` or `builtKey`: a file that a merge has written to since keeps its name. */
  of: z.string(),
  /** By name. */
  files: z.record(z.string(), fileSum),
  /** Names of those that were found to be something else; looked at again before they are used. */
  damaged: z.array(z.string()).default([]),
});

export type DiskSums = z.infer<typeof diskSums>;

const storedSums = z.object({ checksum: z.int(), sums: z.unknown() });
export const DISK_SUMS_NAME = 'disk.sums';

/** Names the disk that a seal is of. */
export function sealKey({ layers, topBytes, topModifiedMs }: DiskSeal): string {
  return JSON.stringify([layers, topBytes, topModifiedMs]);
}

/** Names the disk of a template that was built. */
export function builtKey({ createdAtMs }: { readonly createdAtMs: number }): string {
  return `built ${createdAtMs}`;
}

/** The files that a machine's disks consist of, by their names in its folder: its root disk, and the agent disk. */
export function diskFileNames(layers: readonly string[]): { readonly root: readonly string[]; readonly agent: string } {
  const { rootfs, agentDisk } = machineFiles('');
  return { root: layers.some(isRawDiskName) ? layers : [...layers, rootfs], agent: agentDisk };
}

/** Undefined when there are none, or none that can be used: they are only made anew. */
export async function readDiskSums(folder: string, of?: string): Promise<DiskSums | undefined> {
  const text = await readFile(join(folder, DISK_SUMS_NAME), 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  const stored = parseJson(text, storedSums);
  if (!stored.ok) return undefined;
  const parsed = diskSums.safeParse(stored.value.sums);
  if (!parsed.success || checksumOf(parsed.data) !== stored.value.checksum) return undefined;
  return of === undefined || parsed.data.of === of ? parsed.data : undefined;
}

export async function writeDiskSums(folder: string, sums: DiskSums): Promise<void> {
  await writeFileAtomic(
    join(folder, DISK_SUMS_NAME),
    `${JSON.stringify({ checksum: checksumOf(sums), sums }, undefined, 2)}\n`,
  );
}

/** Of the fields in the schema's order. */
function checksumOf(sums: DiskSums): number {
  return crc32(JSON.stringify(diskSums.parse(sums)));
}
