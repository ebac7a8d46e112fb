import { closeSync, openSync, readSync, type Stats } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { writeFileAtomic } from '@nestbox/kit';
import { z } from 'zod';
import { damagedFile, unreadableFile } from '../damaged-file.ts';
import { machineFiles } from './machine-folder.ts';
import { parseJson } from './parse-json.ts';
import { isRawDiskName } from './raw-disks.ts';

const fileSeal = z.object({ bytes: z.int().nonnegative(), crc32: z.int().nonnegative() });

/** What a disk was when the state was saved: with another moment's disk a memory is rubbish. */
export const diskSeal = z.object({
  /** Top first: layers of qcow2 on `rootfs.ext4`, or one raw disk. */
  layers: z.array(z.string()).min(1),
  /** Of the top, which is the only one that was written to. */
  topBytes: z.int(),
  topModifiedMs: z.number(),
});

export type DiskSeal = z.infer<typeof diskSeal>;

/** `snapshot.json`: written last, so its presence says that the state beside it is complete. */
export const snapshotManifest = z.object({
  format: z.literal(1),
  /** What the VM driver says that a state depends on. */
  machine: z.string(),
  vcpuCount: z.int().min(1),
  memoryMib: z.int().min(1),
  diskMib: z.int().min(1),
  kernelVersion: z.string(),
  agentDiskHash: z.string(),
  envdVersion: z.string(),
  createdAtMs: z.int(),
  /** True: pages on top of the memory image; they carry checksums of their own. */
  hasPages: z.boolean(),
  devices: fileSeal,
  disk: diskSeal,
});

export type SnapshotManifest = z.infer<typeof snapshotManifest>;

const SEAL_PART_BYTES = 256 * 1024;

const storedManifest = z.object({ checksum: z.int(), manifest: z.unknown() });

/** Seals the devices' file, and writes the manifest durably. */
export async function writeManifest(
  folder: string,
  manifest: Omit<SnapshotManifest, 'format' | 'devices'>,
): Promise<SnapshotManifest> {
  const files = machineFiles(folder);
  const complete: SnapshotManifest = { format: 1, ...manifest, devices: sealFile(files.devices) };
  const stored = { checksum: checksumOf(complete), manifest: complete };
  await writeFileAtomic(files.manifest, `${JSON.stringify(stored, undefined, 2)}\n`);
  return complete;
}

/**
 * Reads a manifest and checks the devices that it seals. The disk, the pages and the memory image have checks of their own. Throws
 * `snapshot_damaged`.
 */
export async function readManifest(folder: string): Promise<SnapshotManifest> {
  const files = machineFiles(folder);
  const manifest = await readManifestFile(files.manifest);
  const devices = sealDevices(files.devices);
  if (devices.bytes !== manifest.devices.bytes || devices.crc32 !== manifest.devices.crc32)
    throw damagedFile(files.devices, 'its checksum is wrong');
  return manifest;
}

function sealDevices(path: string): z.infer<typeof fileSeal> {
  try {
    return sealFile(path);
  } catch (cause) {
    throw unreadableFile(path, cause);
  }
}

/** The manifest alone, checked by its own checksum. Throws `snapshot_damaged`. */
export async function readManifestFile(path: string): Promise<SnapshotManifest> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw unreadableFile(path, cause);
  }
  const stored = parseJson(text, storedManifest);
  if (!stored.ok) throw damagedFile(path, stored.reason);
  const parsed = snapshotManifest.safeParse(stored.value.manifest);
  if (!parsed.success) throw damagedFile(path, z.prettifyError(parsed.error));
  if (checksumOf(parsed.data) !== stored.value.checksum) throw damagedFile(path, 'its checksum is wrong');
  return parsed.data;
}

/** Of a disk that nobody writes to. */
export async function sealDisk(folder: string, layers: readonly string[]): Promise<DiskSeal> {
  const { size, mtimeMs } = await stat(machineFiles(folder).layer(layers[0] ?? ''));
  return { layers: [...layers], topBytes: size, topModifiedMs: mtimeMs };
}

/** Throws `snapshot_damaged` when a file is missing, or the top is not from the moment of the seal. */
export async function checkDisk(folder: string, seal: DiskSeal): Promise<void> {
  const { size, mtimeMs } = await checkLayers(folder, seal.layers);
  if (size !== seal.topBytes || mtimeMs !== seal.topModifiedMs)
    throw damagedFile(machineFiles(folder).layer(seal.layers[0] ?? ''), 'it is not from the same moment as the memory');
}

/** Throws `snapshot_damaged` when a file of the disk is missing. Answers what its top is. */
export async function checkLayers(folder: string, layers: readonly string[]): Promise<Stats> {
  const files = machineFiles(folder);
  const bottom = layers.some(isRawDiskName) ? [] : [files.rootfs];
  const [top] = await Promise.all(
    [...layers.map((name) => files.layer(name)), ...bottom].map((path) =>
      stat(path).catch((cause: unknown) => {
        throw unreadableFile(path, cause);
      }),
    ),
  );
  if (top === undefined || layers.length === 0) throw damagedFile(folder, 'it has no disk layer');
  return top;
}

/** Some 160 KiB: read at once, in microseconds. */
function sealFile(path: string): z.infer<typeof fileSeal> {
  const file = openSync(path, 'r');
  try {
    const part = Buffer.allocUnsafe(SEAL_PART_BYTES);
    let bytes = 0;
    let sum = 0;
    for (;;) {
      const read = readSync(file, part);
      if (read === 0) return { bytes, crc32: sum };
      bytes += read;
      sum = crc32(part.subarray(0, read), sum);
    }
  } finally {
    closeSync(file);
  }
}

/** Of the fields in the schema's order, whichever order they were given in. */
function checksumOf(manifest: SnapshotManifest): number {
  return crc32(JSON.stringify(snapshotManifest.parse(manifest)));
}

/** Throws `snapshot_damaged` when there is no such file. */
export async function requirePresent(path: string): Promise<void> {
  await stat(path).catch((cause: unknown) => {
    throw unreadableFile(path, cause);
  });
}
