import type { Node } from '@nestbox/contract/http';
import { formatBytes } from './format-bytes.ts';

/** `qemu 7.2.0, tcg` */
export function vmmWords({ name, version, accelerator }: NonNullable<Node['vmm']>): string {
  return `${[name, version].filter((word) => word !== '').join(' ')}, ${accelerator}`;
}

/** What is known of a host as pairs of field and value: first how it stands, then what it has, then what it is. */
export function nodeFacts(node: Node): (readonly [string, string])[] {
  const { metrics, machineInfo, vmm } = node;
  const facts: (readonly [string, string | undefined])[] = [
    ['id', node.id],
    ['status', node.status],
    ['statusChangedAt', node.statusChangedAt],
    ['statusReason', node.statusReason],
    ['measuredAt', node.measuredAt ?? 'never: it has not been reached yet'],
    ['vmm', vmm && vmmWords(vmm)],
    ['vmmReason', vmm?.reason],
    [
      'sandboxes',
      `${node.sandboxCount} (${node.sandboxStartingCount} of them starting), ${node.pausedSandboxCount} paused`,
    ],
    ['creates', `${node.createSuccesses} succeeded, ${node.createFails} failed since its host agent began`],
    ['vcpus', `${metrics.allocatedCPU} promised; the machine has ${metrics.cpuCount}, ${metrics.cpuPercent}% busy`],
    [
      'memory',
      `${formatBytes(metrics.allocatedMemoryBytes)} promised; ${formatBytes(metrics.memoryUsedBytes)} of ${formatBytes(metrics.memoryTotalBytes)} used`,
    ],
    [
      'hugePages',
      `${metrics.hugePagesUsed} of ${metrics.hugePagesTotal} used, ${metrics.hugePagesReserved} reserved, ${formatBytes(metrics.hugePageSizeBytes)} each`,
    ],
    ...metrics.disks.map(
      ({ mountPoint, device, filesystemType, usedBytes, totalBytes }) =>
        [
          'disk',
          `${mountPoint} (${filesystemType}, ${device}): ${formatBytes(usedBytes)} of ${formatBytes(totalBytes)} used`,
        ] as const,
    ),
    ['processor', machineInfo.cpuModelName],
    ['processorFamily', machineInfo.cpuFamily],
    ['processorModel', machineInfo.cpuModel],
    ['architecture', machineInfo.cpuArchitecture],
    ['version', node.version],
    ['commit', node.commit],
    ['serviceInstanceID', node.serviceInstanceID],
    ['clusterID', node.clusterID],
  ];
  return facts.flatMap(([name, value]) => (value === undefined || value === '' ? [] : [[name, value] as const]));
}
