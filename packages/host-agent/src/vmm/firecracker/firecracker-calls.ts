import { z } from 'zod';
import type { ApiMachine } from '../api/api-machine.ts';
import type { VmmApi } from '../api/vmm-api.ts';

/** What a microVM is made of. Without a network device there is no metadata service. */
export interface MicroVm extends ApiMachine {
  /** What the guest finds at the metadata service (MMDS v2). */
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** So that a guest cannot saturate its TAP: 200 MB/s, and 100 MB at once. */
export const TX_BANDWIDTH = { size: 209_715_200, refill_time: 1000, one_time_burst: 104_857_600 } as const;

/** `reboot=k panic=1`: a guest that panics or reboots ends its VMM. No PCI: devices are on MMIO, which ACPI names. */
const KERNEL_ARGS = ['console=ttyS0', 'quiet', 'loglevel=1', 'panic=1', 'reboot=k', 'pci=off', 'clocksource=kvm-clock'];

const INTERFACE = 'eth0';
const CALL_DEADLINE_MS = 5000;
/** Until the requests in flight have ended. */
const RUN_STATE_DEADLINE_MS = 30_000;
/** All of a large guest's memory may have to be written. */
const SNAPSHOT_DEADLINE_MS = 120_000;
const BALLOON_STATISTICS_SECONDS = 5;

function put(api: VmmApi, path: string, body: unknown, signal?: AbortSignal, deadlineMs = CALL_DEADLINE_MS) {
  return api.call({ method: 'PUT', path, body, deadlineMs }, signal);
}

export function driveId(index: number): string {
  return index === 0 ? 'rootfs' : `drive${index}`;
}

/** Configures a microVM and starts it, in the order that Firecracker wants. Throws what `VmmApi.call` throws. */
export async function startMicroVm(api: VmmApi, vm: MicroVm, signal?: AbortSignal): Promise<void> {
  const { network } = vm;
  const boot = { kernel_image_path: vm.kernelPath, initrd_path: vm.initrdPath };
  await put(api, '/boot-source', { ...boot, boot_args: [...KERNEL_ARGS, ...vm.kernelArgs].join(' ') }, signal);
  for (const [index, { path, readOnly }] of vm.disks.entries()) {
    const id = driveId(index);
    // Writeback: the guest's flushes reach the host's disk.
    const drive = { drive_id: id, path_on_host: path, is_root_device: index === 0, is_read_only: readOnly };
    await put(api, `/drives/${id}`, { ...drive, cache_type: readOnly ? 'Unsafe' : 'Writeback' }, signal);
  }
  if (network !== undefined) {
    const device = { iface_id: INTERFACE, host_dev_name: network.tapName, guest_mac: network.guestMac };
    const tx_rate_limiter = { bandwidth: TX_BANDWIDTH };
    await put(api, `/network-interfaces/${INTERFACE}`, { ...device, tx_rate_limiter }, signal);
  }
  const machine = { vcpu_count: vm.vcpuCount, mem_size_mib: vm.memoryMib, smt: false, track_dirty_pages: true };
  await put(api, '/machine-config', machine, signal);
  if (network !== undefined) await put(api, '/mmds/config', { version: 'V2', network_interfaces: [INTERFACE] }, signal);
  await put(api, '/entropy', {}, signal);
  const balloon = { amount_mib: 0, deflate_on_oom: true, stats_polling_interval_s: BALLOON_STATISTICS_SECONDS };
  await put(api, '/balloon', balloon, signal);
  await put(api, '/actions', { action_type: 'InstanceStart' }, signal);
  if (network !== undefined) await put(api, '/mmds', vm.metadata, signal);
}

export async function setRunning(api: VmmApi, running: boolean, signal?: AbortSignal): Promise<void> {
  const body = { state: running ? 'Resumed' : 'Paused' };
  await api.call({ method: 'PATCH', path: '/vm', body, deadlineMs: RUN_STATE_DEADLINE_MS }, signal);
}

const instance = z.object({ state: z.enum(['Not started', 'Running', 'Paused']) });

export async function readState(api: VmmApi, signal?: AbortSignal): Promise<z.infer<typeof instance>['state']> {
  return instance.parse(await api.call({ method: 'GET', path: '/', deadlineMs: CALL_DEADLINE_MS }, signal)).state;
}

/** Of a paused microVM. `Diff`: pages written since the last snapshot go into the memory file; its holes are unchanged pages. */
export async function createSnapshot(
  api: VmmApi,
  type: 'Full' | 'Diff',
  files: { readonly devicesPath: string; readonly memoryPath: string },
  signal?: AbortSignal,
): Promise<void> {
  const body = { snapshot_type: type, snapshot_path: files.devicesPath, mem_file_path: files.memoryPath };
  await put(api, '/snapshot/create', body, signal, SNAPSHOT_DEADLINE_MS);
}

/**
 * On a fresh process. The vCPUs stand still until `setRunning`. The memory file is mapped privately and must not change
 * while the microVM is there. Firecracker keeps no metadata in a snapshot, so it is given again.
 */
export async function loadSnapshot(
  api: VmmApi,
  files: { readonly devicesPath: string; readonly memoryPath: string },
  metadata: Readonly<Record<string, unknown>> | undefined,
  signal?: AbortSignal,
): Promise<void> {
  const body = {
    snapshot_path: files.devicesPath,
    mem_backend: { backend_type: 'File', backend_path: files.memoryPath },
    track_dirty_pages: true,
    resume_vm: false,
  };
  await put(api, '/snapshot/load', body, signal, SNAPSHOT_DEADLINE_MS);
  if (metadata !== undefined) await put(api, '/mmds', metadata, signal);
}
