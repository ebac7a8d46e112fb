import { z } from 'zod';
import type { ApiMachine } from '../api/api-machine.ts';
import type { VmmApi } from '../api/vmm-api.ts';

/** `eager`: all memory is read before the VM can go on. `on-demand`: pages come as the guest touches them (version 52 and later). */
export const MEMORY_RESTORES = ['eager', 'on-demand'] as const;
export type MemoryRestore = (typeof MEMORY_RESTORES)[number];

/** So that a guest cannot saturate its TAP: 200 MB/s, and 100 MB at once. */
const BANDWIDTH = { size: 209_715_200, refill_time: 1000, one_time_burst: 104_857_600 } as const;
const KERNEL_ARGS = ['console=ttyS0', 'quiet', 'panic=1', 'reboot=k'];
const MIB = 2 ** 20;

const CALL_DEADLINE_MS = 5000;
/** Until the requests in flight have ended. */
const RUN_STATE_DEADLINE_MS = 30_000;
/** All of a large guest's memory may have to be written or read. */
const SNAPSHOT_DEADLINE_MS = 120_000;

function put(api: VmmApi, verb: string, body?: unknown, signal?: AbortSignal, deadlineMs = CALL_DEADLINE_MS) {
  const path = `/api/v1/vm.${verb}`;
  return api.call({ method: 'PUT', path, deadlineMs, ...(body === undefined ? {} : { body }) }, signal);
}

/** Makes a VM and boots it. Throws what `VmmApi.call` throws. */
export async function bootVm(api: VmmApi, vm: ApiMachine, signal?: AbortSignal): Promise<void> {
  const { network } = vm;
  const config = {
    cpus: { boot_vcpus: vm.vcpuCount, max_vcpus: vm.vcpuCount },
    memory: { size: vm.memoryMib * MIB },
    payload: {
      kernel: vm.kernelPath,
      initramfs: vm.initrdPath,
      cmdline: [...KERNEL_ARGS, ...vm.kernelArgs].join(' '),
    },
    // The format is named: guessed, a guest could write a header that makes its disk look like another one.
    disks: vm.disks.map(({ path, readOnly }) => ({ path, readonly: readOnly, image_type: 'Raw' })),
    rng: { src: '/dev/urandom' },
    balloon: { size: 0, deflate_on_oom: true },
    // Its standard output, which appends to the sandbox's log; a file of its own would be emptied by each start.
    serial: { mode: 'Tty' },
    console: { mode: 'Off' },
    ...(network === undefined
      ? {}
      : { net: [{ tap: network.tapName, mac: network.guestMac, rate_limiter_config: { bandwidth: BANDWIDTH } }] }),
  };
  await put(api, 'create', config, signal);
  await put(api, 'boot', undefined, signal, RUN_STATE_DEADLINE_MS);
}

const info = z.object({ state: z.enum(['Created', 'Running', 'Shutdown', 'Paused', 'BreakPoint']) });

export async function readVmState(api: VmmApi, signal?: AbortSignal): Promise<z.infer<typeof info>['state']> {
  const call = { method: 'GET', path: '/api/v1/vm.info', deadlineMs: CALL_DEADLINE_MS } as const;
  return info.parse(await api.call(call, signal)).state;
}

/** Asks first: Cloud Hypervisor refuses to pause a paused VM, and to resume a running one. */
export async function setVmRunning(api: VmmApi, running: boolean, signal?: AbortSignal): Promise<void> {
  if ((await readVmState(api, signal)) === (running ? 'Running' : 'Paused')) return;
  await put(api, running ? 'resume' : 'pause', undefined, signal, RUN_STATE_DEADLINE_MS);
}

/** Of a paused VM, into an empty folder: `config.json`, `state.json`, `memory-ranges`. */
export async function snapshotVm(api: VmmApi, folder: string, signal?: AbortSignal): Promise<void> {
  await put(api, 'snapshot', { destination_url: `file://${folder}` }, signal, SNAPSHOT_DEADLINE_MS);
}

/**
 * On a fresh process; the vCPUs stand still until `setVmRunning`. After a restore on demand the next snapshot is complete
 * only when the guest has touched all of its memory before (its memory preload).
 */
export async function restoreVm(
  api: VmmApi,
  folder: string,
  memory: MemoryRestore,
  signal?: AbortSignal,
): Promise<void> {
  const onDemand = memory === 'on-demand' ? { memory_restore_mode: 'OnDemand' } : {};
  await put(api, 'restore', { source_url: `file://${folder}`, ...onDemand }, signal, SNAPSHOT_DEADLINE_MS);
}

/** How much the guest gives back to the host. */
export async function resizeBalloon(api: VmmApi, sizeMib: number, signal?: AbortSignal): Promise<void> {
  await put(api, 'resize', { desired_balloon: sizeMib * MIB }, signal);
}

export async function deleteVm(api: VmmApi, signal?: AbortSignal): Promise<void> {
  await put(api, 'delete', undefined, signal, RUN_STATE_DEADLINE_MS);
}
