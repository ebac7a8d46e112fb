import type { MessageInitShape } from '@bufbuild/protobuf';
import type { GetHostResponseSchema } from '@nestbox/contract/host';
import type { HostDescription } from '../describe-host.ts';

/** What a host tells of itself, in the words of the RPC. */
export function describeToWire(about: HostDescription): MessageInitShape<typeof GetHostResponseSchema> {
  const { usage } = about;
  const { memory } = usage;
  return {
    hostId: about.hostId,
    version: about.nestboxVersion,
    vmm: about.vmm,
    vmmVersion: about.version,
    accelerator: about.accelerator,
    acceleratorReason: about.reason,
    cpuCount: about.cpuCount,
    memoryBytes: BigInt(about.memoryBytes),
    sandboxCount: usage.sandboxCount,
    bootRetries: about.bootRetries,
    instanceId: about.instanceId,
    commit: about.commit ?? '',
    processor: { ...about.processor },
    usage: {
      measuredAtMs: BigInt(usage.measuredAtMs),
      cpuPercent: usage.cpuPercent,
      memoryUsedBytes: BigInt(memory.usedBytes),
      hugePagesTotal: BigInt(memory.hugePagesTotal),
      hugePagesUsed: BigInt(memory.hugePagesUsed),
      hugePagesReserved: BigInt(memory.hugePagesReserved),
      hugePageSizeBytes: BigInt(memory.hugePageSizeBytes),
      fileSystems: usage.fileSystems.map(({ mountPoint, device, type, usedBytes, totalBytes }) => ({
        mountPoint,
        device,
        type,
        usedBytes: BigInt(usedBytes),
        totalBytes: BigInt(totalBytes),
      })),
      allocatedVcpus: usage.allocatedVcpus,
      allocatedMemoryBytes: BigInt(usage.allocatedMemoryBytes),
      startingSandboxCount: usage.startingCount,
      pausedSandboxCount: usage.pausedCount,
      createsSucceeded: BigInt(usage.createsSucceeded),
      createsFailed: BigInt(usage.createsFailed),
    },
  };
}
