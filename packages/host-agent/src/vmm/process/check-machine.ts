import { access, constants } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import type { VmMachine } from '../driver.ts';

/** unix(7): sun_path has 108 bytes, with the NUL at its end. */
const MAX_SOCKET_PATH_BYTES = 107;

/** Throws not_set_up for a path that no unix socket can have. */
export function requireSocketPath(path: string): void {
  if (Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES) return;
  throw new NestboxError(
    'not_set_up',
    `The path ${path} is longer than the ${MAX_SOCKET_PATH_BYTES} bytes that a unix socket's may have.`,
  );
}

/** Throws not_set_up for the first that is missing. */
export async function requireFiles(paths: readonly string[]): Promise<void> {
  await Promise.all(
    paths.map((path) =>
      access(path, constants.R_OK).catch((cause: unknown) => {
        throw new NestboxError('not_set_up', `${path} is missing or cannot be read. Run \`nestbox setup\`.`, { cause });
      }),
    ),
  );
}

/** Throws invalid_request for numbers that the VMM would refuse. */
export function requireSizes({ vcpuCount, memoryMib }: VmMachine, vmm: string, maxVcpus: number): void {
  if (!Number.isInteger(vcpuCount) || vcpuCount < 1 || vcpuCount > maxVcpus)
    throw new NestboxError('invalid_request', `${vmm} runs 1 to ${maxVcpus} vCPUs, not ${vcpuCount}.`);
  if (!Number.isInteger(memoryMib) || memoryMib < 1)
    throw new NestboxError('invalid_request', `A VM cannot have ${memoryMib} MiB of memory.`);
}

/** Throws not_supported for disks of another format, and for layers. */
export function requireRawDisks({ disks }: VmMachine, vmm: string): void {
  const foreign = disks.find((disk) => disk.format !== 'raw' || (disk.below ?? []).length > 0);
  if (foreign === undefined) return;
  throw new NestboxError('not_supported', `${vmm} gets raw disks alone; ${foreign.path} is ${foreign.format}.`);
}
