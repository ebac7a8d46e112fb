import { createHash } from 'node:crypto';
import { chmod, mkdir, rename, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { syncFile } from '@nestbox/kit';
import type { HostLayout } from '../storage/layout.ts';
import { type DiskEntry, diskTree, fileEntry, folderEntries, hashDiskTree } from './disk-tree.ts';
import { pathExists } from './path-exists.ts';
import { makeReadOnlyExt4 } from './read-only-ext4.ts';
import type { AgentBundle } from './setup-types.ts';
import { addonLibraries, type SharedLibrary, sharedLibraries } from './shared-libraries.ts';

/** Goes into the disk's name: count it up when the way of making the disk changes. */
const RECIPE = 'nestbox agent disk 1';

export interface AgentDiskOptions {
  readonly layout: HostLayout;
  readonly workDir: string;
  /** Node of the version that the guest agent is written for. */
  readonly nodePath: string;
  readonly bundle: AgentBundle;
  /** `lib/modules/<release>` of the guest kernel. */
  readonly moduleTree: string;
  readonly kernelRelease: string;
  readonly signal?: AbortSignal;
}

export interface AgentDisk {
  readonly path: string;
  readonly hash: string;
}

/**
 * Makes the disk that is /agent in every guest, named by a hash of its content: `node`, `lib/` with the loader and the
 * libraries of this machine that Node needs, `agent.mjs`, `node_modules/` and `modules/<release>`. Disks of earlier
 * versions stay, since sandboxes boot from them; collecting them is not done yet.
 */
export async function makeAgentDisk(options: AgentDiskOptions): Promise<AgentDisk> {
  const { layout, workDir, signal } = options;
  const tree = diskTree(await agentDiskEntries(options));
  const hash = await hashDiskTree(tree, RECIPE);
  const path = layout.agentDisk(hash);
  if (await pathExists(path)) return { path, hash };

  const temporary = join(workDir, `agent-${hash}.ext4`);
  await makeReadOnlyExt4({
    path: temporary,
    tree,
    label: 'nestbox-agent',
    uuid: uuidFrom(hash),
    ...(signal && { signal }),
  });
  await chmod(temporary, 0o444);
  await syncFile(temporary);
  await mkdir(layout.agentDir, { recursive: true });
  await rename(temporary, path);
  await syncFile(dirname(path));
  return { path, hash };
}

async function agentDiskEntries(options: AgentDiskOptions): Promise<DiskEntry[]> {
  const { nodePath, bundle, moduleTree, kernelRelease, signal } = options;
  const packages = await Promise.all(
    bundle.nativePackages.map(({ name, dir }) => folderEntries(dir, `node_modules/${name}`)),
  );
  const addons = packages
    .flat()
    .flatMap((entry) => (entry.kind === 'file' && entry.path.endsWith('.node') ? [entry.source] : []));
  const libraries = new Map<string, SharedLibrary>();
  for (const library of await sharedLibraries(nodePath, signal)) libraries.set(library.name, library);
  for (const addon of addons) {
    for (const library of await addonLibraries(addon, signal)) libraries.set(library.name, library);
  }
  return [
    await fileEntry(nodePath, 'node'),
    await fileEntry(bundle.bundlePath, 'agent.mjs'),
    ...(await Promise.all([...libraries.values()].map(({ name, path }) => fileEntry(path, `lib/${name}`)))),
    ...packages.flat(),
    ...(await folderEntries(moduleTree, `modules/${kernelRelease}`)),
  ];
}

/** A name-based UUID (RFC 9562, version 8: the bits are ours). */
function uuidFrom(hash: string): string {
  const hex = createHash('sha256').update(hash).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/**
 * Tells in milliseconds whether the current disk is still right: content of the agent's sources, and size and time
 * of the files too large to read each time. Only compared with itself on the same machine.
 */
export async function agentDiskFingerprint(
  sources: readonly string[],
  nodePath: string,
  kernelVersion: string,
): Promise<string> {
  const tree = (
    await Promise.all(
      sources.map(async (source, index) =>
        (await stat(source)).isDirectory()
          ? folderEntries(source, String(index))
          : [await fileEntry(source, String(index))],
      ),
    )
  ).flat();
  // Tests lie beside the sources and never get into the bundle.
  const sourceTree = tree.filter(({ path }) => !path.endsWith('.test.ts'));
  const node = await stat(nodePath);
  return hashDiskTree(diskTree(sourceTree), JSON.stringify([RECIPE, kernelVersion, nodePath, node.size, node.mtimeMs]));
}
