import { rm } from 'node:fs/promises';
import { basename } from 'node:path';
import { allSettled } from '../all-settled.ts';
import { type DiskLayers, layersFrom, linkLayers, shortenStack } from '../storage/disk-layers.ts';
import { linkFile, machineFiles } from '../storage/machine-folder.ts';
import { isRawDiskName } from '../storage/raw-disks.ts';
import { sealDisk } from '../storage/snapshot-manifest.ts';
import type { LayeringVmDriver } from '../vmm/driver.ts';
import type { DiskSource, RootDisks } from './root-disks.ts';

/**
 * Root disks as layers of qcow2 on a raw one. A copy is a list of names: the VM goes on on a new layer, and what is below belongs to both.
 */
export function layeredDisks(driver: LayeringVmDriver, diskLayers: DiskLayers): RootDisks {
  return {
    format: 'qcow2',

    async derive(source, { folder, diskMib }) {
      const { layers, bottomPath } = asStack(source);
      const [top] = await allSettled([
        diskLayers.create({ folder, below: layers[0], diskMib }),
        linkBelow({ folder: source.folder, layers, bottomPath }, folder),
      ]);
      return [top, ...layers];
    },

    vmDisk(folder, layers) {
      const files = machineFiles(folder);
      const [top = '', ...lower] = layers;
      return {
        path: files.layer(top),
        format: 'qcow2',
        readOnly: false,
        below: [...lower.map(files.layer), files.rootfs],
      };
    },

    async present(folder, { handle, machine }) {
      const top = basename(await driver.rootDiskPath(handle));
      return top === machine.layers[0] ? machine.layers : layersFrom(folder, top);
    },

    async prepareCopy({ handle, machine }, { folder, ownFolder, diskMib }, undo) {
      const { layers } = machine;
      const files = machineFiles(ownFolder);
      const top = await diskLayers.create({ folder: ownFolder, below: layers[0], diskMib });
      undo.defer(() => rm(files.layer(top), { force: true }));
      await linkLayers({ folder: ownFolder, layers, bottomPath: files.rootfs }, folder);
      return {
        layers,
        own: [top, ...layers],
        async take() {
          try {
            await driver.switchDisk(handle, files.layer(top));
          } catch (error) {
            // One whose answer did not come may have been carried out; then there is no way back, and none is needed.
            const path = await driver.rootDiskPath(handle).catch(() => undefined);
            if (path !== files.layer(top)) throw error;
          }
        },
      };
    },

    seal: sealDisk,

    link: (folder, layers, target) => linkLayers({ folder, layers, bottomPath: machineFiles(folder).rootfs }, target),

    bottomPath: (folder) => machineFiles(folder).rootfs,

    stacks: {
      shorten: shortenStack,
      flatten: (folder, handle, signal) => driver.flattenDisk(handle, machineFiles(folder).rootfs, signal),
    },
  };
}

async function linkBelow(stack: DiskSource, target: string): Promise<void> {
  if (stack.folder !== target) return linkLayers(stack, target);
  const { rootfs } = machineFiles(target);
  if (stack.bottomPath === rootfs) return;
  // A try before this one may have left it.
  await rm(rootfs, { force: true });
  await linkFile(stack.bottomPath, rootfs);
}

/** A raw disk that was somebody's is as good at the bottom as a template's. */
function asStack({ folder, layers, bottomPath }: DiskSource): Pick<DiskSource, 'layers' | 'bottomPath'> {
  const [top] = layers;
  if (top === undefined || !isRawDiskName(top)) return { layers, bottomPath };
  return { layers: [], bottomPath: machineFiles(folder).layer(top) };
}
