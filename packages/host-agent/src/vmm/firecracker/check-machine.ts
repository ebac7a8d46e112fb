import { open } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import type { VmMachine, VmSpec } from '../driver.ts';
import { requireFiles, requireRawDisks, requireSizes, requireSocketPath } from '../process/check-machine.ts';
import { firecrackerRunFiles } from './run-files.ts';

/** From the API's description, `MachineConfiguration`. */
const MAX_VCPUS = 32;
const ELF = Buffer.from('\x7fELF', 'latin1');

/** Throws not_set_up, invalid_request or not_supported for what cannot start, before anything is begun. */
export async function checkMachine(machine: VmMachine, moreFiles: readonly string[]): Promise<void> {
  requireSocketPath(firecrackerRunFiles(machine.runDir).apiSocket);
  requireSizes(machine, 'Firecracker', MAX_VCPUS);
  requireRawDisks(machine, 'Firecracker');
  await requireFiles([...moreFiles, machine.memoryPath, ...machine.disks.map((disk) => disk.path)]);
}

/** Firecracker's loader takes no compressed kernel. Throws not_set_up. */
export async function checkKernel({ kernelPath }: VmSpec): Promise<void> {
  await using file = await open(kernelPath, 'r');
  const { buffer, bytesRead } = await file.read(Buffer.alloc(ELF.length), 0, ELF.length, 0);
  if (bytesRead === ELF.length && buffer.equals(ELF)) return;
  throw new NestboxError('not_set_up', `${kernelPath} is no uncompressed kernel (vmlinux), which Firecracker needs.`);
}
