import { access, constants, open } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import type { VmMachine, VmSpec } from '../driver.ts';
import { firecrackerRunFiles } from './run-files.ts';

/** unix(7): sun_path has 108 bytes, with the NUL at its end. */
const MAX_SOCKET_PATH_BYTES = 107;
/** From the API's description, `MachineConfiguration`. */
const MAX_VCPUS = 32;
const ELF = Buffer.from('\x7fELF', 'latin1');

/** Throws not_set_up, bad_request or not_supported for what cannot start, before anything is begun. */
export async function checkMachine(machine: VmMachine, moreFiles: readonly string[]): Promise<void> {
  const { runDir, vcpuCount, memoryMib, disks, memoryPath } = machine;
  const { apiSocket } = firecrackerRunFiles(runDir);
  if (Buffer.byteLength(apiSocket) > MAX_SOCKET_PATH_BYTES)
    throw new NestboxError(
      'not_set_up',
      `The path ${apiSocket} is longer than the ${MAX_SOCKET_PATH_BYTES} bytes that a unix socket's may have.`,
    );
  if (!Number.isInteger(vcpuCount) || vcpuCount < 1 || vcpuCount > MAX_VCPUS)
    throw new NestboxError('invalid_request', `Firecracker runs 1 to ${MAX_VCPUS} vCPUs, not ${vcpuCount}.`);
  if (!Number.isInteger(memoryMib) || memoryMib < 1)
    throw new NestboxError('invalid_request', `A VM cannot have ${memoryMib} MiB of memory.`);
  const foreign = disks.find((disk) => disk.format !== 'raw' || (disk.below ?? []).length > 0);
  if (foreign !== undefined)
    throw new NestboxError('not_supported', `Firecracker reads raw disks alone; ${foreign.path} is ${foreign.format}.`);
  await Promise.all([...moreFiles, memoryPath, ...disks.map((disk) => disk.path)].map(requireFile));
}

/** Firecracker's loader takes no compressed kernel. Throws not_set_up. */
export async function checkKernel({ kernelPath }: VmSpec): Promise<void> {
  await using file = await open(kernelPath, 'r');
  const { buffer, bytesRead } = await file.read(Buffer.alloc(ELF.length), 0, ELF.length, 0);
  if (bytesRead === ELF.length && buffer.equals(ELF)) return;
  throw new NestboxError('not_set_up', `${kernelPath} is no uncompressed kernel (vmlinux), which Firecracker needs.`);
}

async function requireFile(path: string): Promise<void> {
  await access(path, constants.R_OK).catch((cause: unknown) => {
    throw new NestboxError('not_set_up', `${path} is missing or cannot be read. Run \`nestbox setup\`.`, { cause });
  });
}
