import { mkdir, rm } from 'node:fs/promises';
import { isOpen, parseEgressRules } from '@nestbox/contract';
import type { NetworkSlot } from '../network/network.ts';
import { tapOwnerUid } from '../network/slot.ts';
import type { CurrentImages } from '../storage/images-file.ts';
import { machineFiles } from '../storage/machine-folder.ts';
import type { VmHandle, VmMachine, VmState } from '../vmm/driver.ts';
import { bootDeadline } from './boot-deadline.ts';
import { bringUpAgent } from './bring-up-agent.ts';
import { attempt } from './clean-up.ts';
import type { RunningVm } from './lifecycle.ts';
import type { SandboxIdentity } from './live-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { Trace } from './trace.ts';

export type StartKind =
  | { readonly kind: 'boot'; readonly images: CurrentImages }
  | {
      readonly kind: 'restore';
      readonly state: VmState;
      readonly kernelVersion: string;
      readonly agentDiskHash: string;
    };

/** A sandbox whose folder has everything that its VM needs. */
export interface MachineStart {
  readonly identity: SandboxIdentity;
  /** Its root disk in the sandbox's folder, top first. The top is new. */
  readonly layers: readonly string[];
  readonly how: StartKind;
  /** Where memory image and agent disk are, when not under their usual names. */
  readonly memoryPath?: string;
  readonly agentDiskPath?: string;
}

/**
 * From a folder to an initialised guest agent: network, VM, agent. On any failure everything but the folder is undone. Throws
 * what the rooms throw; an abort throws the signal's reason.
 */
export async function startMachine(
  context: SandboxContext,
  start: MachineStart,
  signal: AbortSignal,
  trace: Trace,
): Promise<RunningVm> {
  const { layout, networks, driver } = context;
  const { identity, how } = start;
  const { sandboxId, accessToken } = identity.spec;
  const runDir = layout.sandboxRunDir(sandboxId);
  await using undo = new AsyncDisposableStack();
  await mkdir(runDir, { recursive: true, mode: 0o700 });
  undo.defer(() =>
    attempt(context, sandboxId, 'removing the run folder', () => rm(runDir, { recursive: true, force: true })),
  );
  const slot = await trace.measure('network', () => networks.acquire(signal));
  undo.defer(() => attempt(context, sandboxId, 'removing the network', () => networks.release(slot)));
  const egress = parseEgressRules(identity.spec);
  // A new slot is open. The guest sends nothing before its rules hold.
  if (!isOpen(egress)) await trace.measure('egress', () => networks.setEgress(slot, sandboxId, egress));

  const limitMs = how.kind === 'boot' ? context.limits.bootTimeoutMs : restoreTimeoutMs(identity.memoryMib);
  using boot = bootDeadline(sandboxId, limitMs, signal);
  const handle = await trace.measure(how.kind === 'boot' ? 'kernel' : 'restore', () =>
    startVm(context, start, slot, boot.signal),
  );
  undo.defer(() => attempt(context, sandboxId, 'ending the VM', () => driver.destroy(handle)));
  const guest = context.guestClient({ address: slot.hostReachableAddress, accessToken });
  undo.defer(() => guest.close());
  const resume = how.kind === 'boot' ? undefined : () => driver.resume(handle, boot.signal);
  const envdVersion = await bringUpAgent(context, { identity, guest, handle, boot, limitMs, resume }, trace);
  signal.throwIfAborted();
  undo.move();
  const { kernelVersion, agentDiskHash } = how.kind === 'boot' ? how.images : how;
  return { handle, slot, guest, machine: { layers: start.layers, kernelVersion, agentDiskHash, envdVersion } };
}

/** Ends what `startMachine` began, when its caller cannot use it after all. */
export async function abandonMachine(context: SandboxContext, sandboxId: string, vm: RunningVm): Promise<void> {
  const { driver, networks, layout } = context;
  vm.guest.close();
  await attempt(context, sandboxId, 'ending the VM', () => driver.destroy(vm.handle));
  await attempt(context, sandboxId, 'removing the network', () => networks.release(vm.slot));
  await attempt(context, sandboxId, 'removing the run folder', () =>
    rm(layout.sandboxRunDir(sandboxId), { recursive: true, force: true }),
  );
}

const RESTORE_TIMEOUT_MS = 30_000;
/** All pages of a large guest may have to be put in their places. */
const RESTORE_TIMEOUT_PER_MIB_MS = 10;

function restoreTimeoutMs(memoryMib: number): number {
  return RESTORE_TIMEOUT_MS + memoryMib * RESTORE_TIMEOUT_PER_MIB_MS;
}

function startVm(
  { driver, layout, disks }: SandboxContext,
  start: MachineStart,
  slot: NetworkSlot,
  signal: AbortSignal,
): Promise<VmHandle> {
  const { identity, layers, how } = start;
  const { sandboxId } = identity.spec;
  const folder = layout.sandboxDir(sandboxId);
  const files = machineFiles(folder);
  const machine: VmMachine = {
    vmId: sandboxId,
    vcpuCount: identity.vcpuCount,
    memoryMib: identity.memoryMib,
    userId: tapOwnerUid(slot),
    memoryPath: start.memoryPath ?? files.memory,
    disks: [
      disks.vmDisk(folder, layers),
      { path: start.agentDiskPath ?? files.agentDisk, format: 'raw', readOnly: true },
    ],
    network: { netnsName: slot.netnsName, tapName: slot.tapName, guestMac: slot.guestMac },
    runDir: layout.sandboxRunDir(sandboxId),
    consolePath: layout.sandboxConsole(sandboxId),
  };
  if (how.kind === 'restore') return driver.restore(machine, how.state, signal);
  const { kernelPath, initrdPath } = how.images;
  return driver.start({ ...machine, kernelPath, initrdPath, kernelArgs: [] }, signal);
}
