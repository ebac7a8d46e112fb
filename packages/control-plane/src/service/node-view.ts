import type { GetHostResponse } from '@nestbox/contract/host';
import { CLUSTER_ID, type Node, type NodeStatus } from '@nestbox/contract/http';
import type { HostLink } from '../hosts/host-link.ts';
import type { StoredHostStatus } from '../store/host-status-repository.ts';

type Viewed = Pick<HostLink, 'id' | 'state' | 'stateChangedAtMs' | 'lastDescription'>;

/** A host in the words of the API: how it stands with us, and what it told last. */
export function viewNode(link: Viewed, stored: StoredHostStatus | undefined): Node {
  const about = link.lastDescription;
  const measuredAtMs = about?.usage?.measuredAtMs;
  return {
    id: link.id,
    clusterID: CLUSTER_ID,
    serviceInstanceID: about?.instanceId ?? '',
    version: about?.version ?? '',
    commit: about?.commit ?? '',
    machineInfo: {
      cpuFamily: about?.processor?.family ?? '',
      cpuModel: about?.processor?.model ?? '',
      cpuModelName: about?.processor?.modelName ?? '',
      cpuArchitecture: about?.processor?.architecture ?? '',
    },
    ...viewStatus(link, stored),
    sandboxCount: about?.sandboxCount ?? 0,
    sandboxStartingCount: about?.usage?.startingSandboxCount ?? 0,
    pausedSandboxCount: about?.usage?.pausedSandboxCount ?? 0,
    metrics: viewMetrics(about),
    createSuccesses: Number(about?.usage?.createsSucceeded ?? 0),
    createFails: Number(about?.usage?.createsFailed ?? 0),
    ...(measuredAtMs === undefined ? {} : { measuredAt: new Date(Number(measuredAtMs)).toISOString() }),
    ...(about === undefined ? {} : { vmm: viewVmm(about) }),
  };
}

/** Whether a host can be reached goes before what an administrator said of it: that holds again when it is back. */
function viewStatus(
  { state, stateChangedAtMs }: Viewed,
  stored: StoredHostStatus | undefined,
): Pick<Node, 'status' | 'statusChangedAt' | 'statusReason'> {
  const said = stored?.status ?? 'ready';
  const at = (ms: number) => new Date(ms).toISOString();
  if (state.kind === 'connected')
    return { status: said, statusChangedAt: at(Math.max(stateChangedAtMs, stored?.changedAtMs ?? 0)) };
  const reasons = [
    state.kind === 'unreachable' ? `It cannot be reached: ${state.error.message}` : 'It has not been reached yet.',
    ...(said === 'ready' ? [] : [`Once it is, it is ${said}.`]),
  ];
  const status: NodeStatus = state.kind === 'unreachable' ? 'unhealthy' : 'connecting';
  return { status, statusChangedAt: at(stateChangedAtMs), statusReason: reasons.join(' ') };
}

function viewMetrics(about: GetHostResponse | undefined): Node['metrics'] {
  const usage = about?.usage;
  return {
    allocatedCPU: usage?.allocatedVcpus ?? 0,
    cpuPercent: usage?.cpuPercent ?? 0,
    cpuCount: about?.cpuCount ?? 0,
    allocatedMemoryBytes: Number(usage?.allocatedMemoryBytes ?? 0),
    memoryUsedBytes: Number(usage?.memoryUsedBytes ?? 0),
    memoryTotalBytes: Number(about?.memoryBytes ?? 0),
    hugePagesTotal: Number(usage?.hugePagesTotal ?? 0),
    hugePagesUsed: Number(usage?.hugePagesUsed ?? 0),
    hugePagesReserved: Number(usage?.hugePagesReserved ?? 0),
    hugePageSizeBytes: Number(usage?.hugePageSizeBytes ?? 0),
    disks: (usage?.fileSystems ?? []).map(({ mountPoint, device, type, usedBytes, totalBytes }) => ({
      mountPoint,
      device,
      filesystemType: type,
      usedBytes: Number(usedBytes),
      totalBytes: Number(totalBytes),
    })),
  };
}

function viewVmm({ vmm, vmmVersion, accelerator, acceleratorReason }: GetHostResponse): NonNullable<Node['vmm']> {
  return { name: vmm, version: vmmVersion, accelerator, reason: acceleratorReason };
}
