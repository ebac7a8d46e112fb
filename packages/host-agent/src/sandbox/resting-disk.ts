import type { Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { unreadableFile } from '../damaged-file.ts';
import { contentDigest, type DigestOptions } from '../storage/content-digest.ts';
import { builtKey, diskFileNames, sealKey } from '../storage/disk-sums.ts';
import { errnoOf } from '../storage/errno.ts';
import { machineFiles, ROOTFS_NAME } from '../storage/machine-folder.ts';
import type { DiskSeal } from '../storage/snapshot-manifest.ts';

/** A disk that nobody writes to. */
export interface RestingDisk {
  readonly folder: string;
  /** As `disk.sums` names it. */
  readonly of: string;
  /** Of its files in the folder. */
  readonly names: readonly string[];
}

/** The disk of a state, and the agent disk beside it. */
export function sealedDisk(folder: string, seal: DiskSeal): RestingDisk {
  const { root, agent } = diskFileNames(seal.layers);
  return { folder, of: sealKey(seal), names: [...root, agent] };
}

/** The disk of a template that was built. */
export function builtTemplateDisk(folder: string, template: { readonly createdAtMs: number }): RestingDisk {
  return { folder, of: builtKey(template), names: [ROOTFS_NAME] };
}

/** Of work that anybody may end who needs the disk. */
export type BackgroundOptions = DigestOptions & { readonly signal: AbortSignal };

/** Throws `snapshot_damaged` when one is missing. */
export async function statAll({ folder, names }: RestingDisk) {
  const files = machineFiles(folder);
  return Promise.all(
    names.map(async (name) => {
      const path = files.layer(name);
      const stats = await stat(path).catch((cause: unknown) => {
        throw unreadableFile(path, cause);
      });
      return [name, { path, stats }] as const;
    }),
  );
}

/** What the host's own disk cannot give back is damaged. */
export async function digestOf(path: string, options: DigestOptions): Promise<string> {
  try {
    return await contentDigest(path, options);
  } catch (cause) {
    const code = errnoOf(cause);
    if (code === 'EIO' || code === 'EILSEQ' || code === 'ENOENT') throw unreadableFile(path, cause);
    throw cause;
  }
}

/** Names a file as it is, whichever folders have it. */
export function keyOf({ dev, ino, size, mtimeMs }: Stats): string {
  return [dev, ino, size, mtimeMs].join(' ');
}
