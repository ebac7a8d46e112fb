import { z } from 'zod';
import { timestamp } from './common.ts';

/** The installation's own, and the only one that there is. */
export const CLUSTER_ID = '00000000-0000-0000-0000-000000000000';

export const nodeStatus = z.enum(['ready', 'draining', 'connecting', 'unhealthy', 'standby']);
export type NodeStatus = z.infer<typeof nodeStatus>;

export const nodeIdParams = z.object({ nodeID: z.string() });
export const nodesQuery = z.object({ clusterID: z.uuid().optional() });
export const nodeStatusChange = nodesQuery.extend({ status: nodeStatus });

const count = z.int();

const diskMetrics = z.object({
  mountPoint: z.string(),
  device: z.string(),
  filesystemType: z.string(),
  usedBytes: count,
  totalBytes: count,
});

/** Of the machine; what is allocated is promised to the sandboxes of `sandboxCount`. */
const nodeMetrics = z.object({
  allocatedCPU: count,
  /** 0 to 100: of all processors together. */
  cpuPercent: count,
  cpuCount: count,
  allocatedMemoryBytes: count,
  memoryUsedBytes: count,
  memoryTotalBytes: count,
  /** Numbers of pages. */
  hugePagesTotal: count,
  hugePagesUsed: count,
  hugePagesReserved: count,
  hugePageSizeBytes: count,
  /** The file systems that the host agent's folders are on. */
  disks: z.array(diskMetrics),
});

/** Empty what the node's kernel does not say. */
const machineInfo = z.object({
  cpuFamily: z.string(),
  cpuModel: z.string(),
  cpuModelName: z.string(),
  cpuArchitecture: z.string(),
});

/** Nestbox's own: what runs the VMs of a node. */
const nodeVmm = z.object({
  /** qemu, firecracker or cloud-hypervisor. */
  name: z.string(),
  version: z.string(),
  /** kvm or tcg. */
  accelerator: z.string(),
  /** Why this VM manager and this accelerator, in plain words. */
  reason: z.string(),
});

/** A host: answer of `GET /nodes/{nodeID}`, and an item of `GET /nodes`. */
export const nodeBody = z.object({
  id: z.string(),
  clusterID: z.string(),
  /** Another one at each start of its host agent. */
  serviceInstanceID: z.string(),
  version: z.string(),
  /** Of the Git checkout that it runs from; empty when it runs from none. */
  commit: z.string(),
  machineInfo,
  status: nodeStatus,
  statusChangedAt: timestamp,
  /** All but the paused ones. */
  sandboxCount: count,
  sandboxStartingCount: count,
  metrics: nodeMetrics,
  /** Since its host agent began. */
  createSuccesses: count,
  createFails: count,
  /** Nestbox's own. Why it is neither ready nor what an administrator said; in plain words. */
  statusReason: z.string().optional(),
  /** Nestbox's own. When the node told all this; missing: it has not been reached yet, and its values are empty or 0. */
  measuredAt: timestamp.optional(),
  /** Nestbox's own. */
  pausedSandboxCount: count,
  /** Missing: it has not been reached yet. */
  vmm: nodeVmm.optional(),
});
export type Node = z.infer<typeof nodeBody>;
