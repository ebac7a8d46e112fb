import { open } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import type { VmMachine, VmSpec } from '../driver.ts';
import { requireFiles, requireRawDisks, requireSizes, requireSocketPath } from '../process/check-machine.ts';
import { cloudHypervisorRunFiles } from './run-files.ts';

/** What KVM gives an x86 guest without an interrupt remapper. */
const MAX_VCPUS = 254;
const ELF = Buffer.from('\x7fELF', 'latin1');
/** Linux, Documentation/arch/x86/boot.rst. */
const BZIMAGE = { magic: Buffer.from('HdrS', 'latin1'), offset: 0x202 } as const;

/** Throws not_set_up, invalid_request or not_supported for what cannot start, before anything is begun. */
export async function checkMachine(machine: VmMachine, moreFiles: readonly string[]): Promise<void> {
  requireSocketPath(cloudHypervisorRunFiles(machine.runDir).apiSocket);
  requireSizes(machine, 'Cloud Hypervisor', MAX_VCPUS);
  requireRawDisks(machine, 'Cloud Hypervisor');
  await requireFiles([...moreFiles, machine.memoryPath, ...machine.disks.map((disk) => disk.path)]);
}

/** Throws not_set_up for a file that is neither an ELF kernel nor a bzImage. */
export async function checkKernel({ kernelPath }: VmSpec): Promise<void> {
  await using file = await open(kernelPath, 'r');
  const bytes = Buffer.alloc(BZIMAGE.offset + BZIMAGE.magic.length);
  await file.read(bytes, 0, bytes.length, 0);
  if (bytes.subarray(0, ELF.length).equals(ELF) || bytes.subarray(BZIMAGE.offset).equals(BZIMAGE.magic)) return;
  throw new NestboxError(
    'not_set_up',
    `${kernelPath} is neither a vmlinux nor a bzImage, which Cloud Hypervisor needs.`,
  );
}
