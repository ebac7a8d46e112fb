import { NestboxError } from '@nestbox/contract';
import { syncFile } from '@nestbox/kit';
import { linkFile, machineFiles } from '../storage/machine-folder.ts';
import { createRawDisk, isRawDiskName, newRawDiskName } from '../storage/raw-disks.ts';
import { sealDisk } from '../storage/snapshot-manifest.ts';
import type { DiskSource, RootDisks } from './root-disks.ts';

/**
 * Root disks as raw ones, for VM managers that read no others. Each VM has a copy: a reflink where the file system has it, else all of it
 * that is no hole, for which a VM that is copied stands still.
 */
export function copiedDisks(vmm: string): RootDisks {
  return {
    format: 'raw',

    async derive(source, target, signal) {
      if (source.isSpare === true) return takeOver(source, target.folder, vmm);
      const { name } = await createRawDisk({ ...target, sourcePath: rawPath(source, vmm) }, signal);
      return [name];
    },

    vmDisk: (folder, layers) => ({
      path: machineFiles(folder).layer(layers[0] ?? ''),
      format: 'raw',
      readOnly: false,
    }),

    present: async (_folder, { machine }) => machine.layers,

    async prepareCopy({ machine }, { folder, ownFolder, diskMib }) {
      const name = newRawDiskName();
      const sourcePath = machineFiles(ownFolder).layer(machine.layers[0] ?? '');
      // A reflink is made of what stands on the disk; what is written now need not be while the VM stands still.
      await syncFile(sourcePath);
      return {
        layers: [name],
        own: machine.layers,
        async take() {
          await createRawDisk({ folder, name, sourcePath, diskMib });
        },
      };
    },

    async seal(folder, layers) {
      // What the guest has flushed may be in the host's page cache yet.
      await syncFile(machineFiles(folder).layer(layers[0] ?? ''));
      return sealDisk(folder, layers);
    },

    link: (folder, layers, target) =>
      linkFile(
        rawPath({ folder, layers, bottomPath: machineFiles(folder).rootfs }, vmm),
        machineFiles(target).layer(layers[0] ?? ''),
      ),

    bottomPath: (folder, layers) => machineFiles(folder).layer(layers[0] ?? ''),

    stacks: undefined,
  };
}

async function takeOver(source: DiskSource, folder: string, vmm: string): Promise<readonly string[]> {
  const name = newRawDiskName();
  await linkFile(rawPath(source, vmm), machineFiles(folder).layer(name));
  return [name];
}

function rawPath({ folder, layers, bottomPath }: DiskSource, vmm: string): string {
  const [top] = layers;
  if (top === undefined) return bottomPath;
  if (isRawDiskName(top)) return machineFiles(folder).layer(top);
  throw new NestboxError(
    'snapshot_incompatible',
    `The disk in ${folder} is kept in layers (qcow2), which ${vmm} does not read. Start the server with --vmm qemu to use it.`,
  );
}
