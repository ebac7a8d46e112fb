import { readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { CurrentImages } from '../storage/images-file.ts';
import type { HostLayout } from '../storage/layout.ts';

/**
 * Agent disks, initial RAM disks and kernels that `images` does not name. New VMs do not boot them, VMs that run have loaded them, and
 * sandboxes and snapshots that need an agent disk have links to it of their own.
 */
export async function removeEarlierImages(layout: HostLayout, images: CurrentImages): Promise<void> {
  const { agentDir, kernelsDir } = layout;
  await removeOthers(agentDir, images.agentDiskPath);
  await removeOthers(kernelsDir, layout.kernelDir(images.kernelVersion));
  const initrdDir = dirname(images.initrdPath);
  await removeOthers(initrdDir, images.initrdPath, (name) => name.startsWith('initrd-'));
}

async function removeOthers(
  folder: string,
  kept: string,
  isMeant: (name: string) => boolean = () => true,
): Promise<void> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    if (isMeant(name) && path !== kept) await rm(path, { recursive: true, force: true });
  }
}
