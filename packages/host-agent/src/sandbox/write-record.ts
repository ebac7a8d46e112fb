import { attempt } from './clean-up.ts';
import type { PausedVm, RunningVm } from './lifecycle.ts';
import { type LiveSandbox, recordOf, type SandboxIdentity } from './live-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';

/** Written before anything is begun, so that a crash on the way leaves a folder that is known to be half-made. */
export async function recordStarting({ records }: SandboxContext, identity: SandboxIdentity): Promise<void> {
  await records.write(identity.spec.sandboxId, recordOf(identity, { state: 'starting' }), { durable: false });
}

/** Enough to find the VM again; a machine that goes down takes it along, so the disk is not waited for. */
export async function recordRunning(
  { records }: SandboxContext,
  identity: SandboxIdentity,
  { handle, slot, machine }: Pick<RunningVm, 'handle' | 'slot' | 'machine'>,
): Promise<void> {
  const { index, netnsName, tapName, guestMac, guestAddress, hostReachableAddress } = slot;
  const record = recordOf(identity, {
    state: 'running',
    machine: { ...machine, layers: [...machine.layers] },
    vm: handle,
    slot: { index, netnsName, tapName, guestMac, guestAddress, hostReachableAddress },
  });
  await records.write(identity.spec.sandboxId, record, { durable: false });
}

/** From here on the sandbox is what is on the disk, also after a power failure. */
export async function recordPaused(
  { records }: SandboxContext,
  identity: SandboxIdentity,
  { machine, memory, disk, pausedAtMs }: PausedVm,
): Promise<void> {
  const record = recordOf(identity, {
    state: 'paused',
    machine: { ...machine, layers: [...machine.layers] },
    memory,
    disk,
    pausedAtMs,
  });
  await records.write(identity.spec.sandboxId, record);
}

/** So that a crash on the way leads to its end too. Best effort: the disk may be full. */
export async function recordStopping(context: SandboxContext, { id, identity }: LiveSandbox): Promise<void> {
  await attempt(context, id, 'recording the end', () =>
    context.records.write(id, recordOf(identity, { state: 'stopping' })),
  );
}
