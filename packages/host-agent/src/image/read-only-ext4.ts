import { rm } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import type { DiskEntry } from './disk-tree.ts';
import { makeExt4 } from './ext4.ts';
import { runTool } from './run-tool.ts';
import { toolEnvironment } from './tool-environment.ts';

const BLOCK_BYTES = 4096;

/** 1 January 2024: what every time on a reproducible disk says. Not 0, which debugfs takes for "now". */
const FIXED_TIME_SECONDS = 1_704_067_200;

export interface ReadOnlyExt4Options {
  readonly path: string;
  /** `diskTree(…)` */
  readonly tree: readonly DiskEntry[];
  readonly label: string;
  readonly uuid: string;
  readonly signal?: AbortSignal;
}

/**
 * Makes an ext4 image that is never written to, and comes out byte for byte the same from the same entries, on every
 * machine: a VM restored elsewhere has parts of this disk in its memory. `mke2fs -d` cannot do that: it takes the order
 * of the host's directories and the change times of the host's files. So the file system is made empty, and debugfs,
 * which works on the file without mounting it, writes the entries in order, all owned by root.
 */
export async function makeReadOnlyExt4(options: ReadOnlyExt4Options): Promise<void> {
  const { path, tree, label, uuid, signal } = options;
  const env = { ...toolEnvironment(), E2FSPROGS_FAKE_TIME: String(FIXED_TIME_SECONDS) };
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rm(path, { force: true }));
  await makeExt4({
    path,
    sizeBytes: imageSizeBytes(tree),
    label,
    uuid,
    journal: false,
    inodeCount: tree.length + 64,
    env,
    ...(signal && { signal }),
  });
  const { stderr } = await runTool('debugfs', ['-w', '-f', '-', path], {
    env,
    input: debugfsScript(tree),
    ...(signal && { signal }),
  });
  // debugfs exits with 0 whatever happened; all it says on standard error, but its banner, is a complaint.
  const complaints = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('debugfs '));
  if (complaints.length > 0)
    throw new NestboxError('internal', `${path} could not be filled: ${complaints.slice(0, 3).join('; ')}`);
  await runTool('e2fsck', ['-fn', path], { env, ...(signal && { signal }) });
  undo.move();
}

/** Content in whole blocks, and room for what the file system itself needs. */
function imageSizeBytes(tree: readonly DiskEntry[]): number {
  const content = tree.reduce(
    (sum, entry) => sum + (entry.kind === 'file' ? Math.ceil(entry.sizeBytes / BLOCK_BYTES) : 1) * BLOCK_BYTES,
    0,
  );
  const inodes = tree.length * 256;
  const mebibytes = Math.ceil(((content + inodes) * 1.04) / 2 ** 20) + 4;
  return mebibytes * 2 ** 20;
}

export function debugfsScript(tree: readonly DiskEntry[]): string {
  const lines: string[] = [];
  for (const entry of tree) {
    const target = quote(entry.path);
    switch (entry.kind) {
      case 'directory':
        lines.push(`mkdir ${target}`, `set_inode_field ${target} mode 040755`);
        break;
      case 'symlink':
        lines.push(`symlink ${target} ${quote(entry.target)}`);
        break;
      case 'file':
        lines.push(
          `write ${quote(entry.source)} ${target}`,
          `set_inode_field ${target} mode ${entry.executable ? '0100755' : '0100644'}`,
        );
        break;
    }
  }
  return `${lines.join('\n')}\n`;
}

/** debugfs splits at blanks, and takes a doubled quote inside quotes for one. A line break it cannot take at all. */
function quote(path: string): string {
  if (/[\n\r]/.test(path))
    throw new NestboxError('internal', `A file name with a line break cannot be on the agent disk.`);
  return `"${path.replaceAll('"', '""')}"`;
}
