import type { RunningVm } from './lifecycle.ts';
import type { LiveSandbox } from './live-sandbox.ts';
import { requireRunningVm } from './require-state.ts';
import type { SandboxContext } from './sandbox-context.ts';
import { recordRunning } from './write-record.ts';

/**
 * The files of a VM's disk, top first, by what its VMM writes to. A host agent that ended right after it had given the VM a
 * new layer did not come to write that down, and a record may be behind by more than one when the disk was full. Throws what
 * the driver throws when the VMM does not say.
 */
export function presentLayers(
  { disks, layout }: Pick<SandboxContext, 'disks' | 'layout'>,
  sandboxId: string,
  vm: Pick<RunningVm, 'handle' | 'machine'>,
): Promise<readonly string[]> {
  return disks.present(layout.sandboxDir(sandboxId), vm);
}

/** A VM with the layers that it really has, itself when they are as recorded. Throws what the driver throws. */
export async function withPresentLayers(
  context: Pick<SandboxContext, 'disks' | 'layout' | 'logger'>,
  sandboxId: string,
  vm: RunningVm,
): Promise<RunningVm> {
  const layers = await presentLayers(context, sandboxId, vm);
  if (layers === vm.machine.layers) return vm;
  context.logger.warn({ sandboxId, layers, recorded: vm.machine.layers }, 'a VM has another disk than was recorded');
  return { ...vm, machine: { ...vm.machine, layers } };
}

/**
 * Answers a running sandbox's VM with the layers that it really has, for whoever is about to seal or link them. What was
 * recorded otherwise (its VMM said nothing when the sandbox was taken over) is put right first. Throws as requireRunningVm does. Alone with the sandbox's id.
 */
export async function confirmLayers(context: SandboxContext, sandbox: LiveSandbox): Promise<RunningVm> {
  const vm = requireRunningVm(sandbox);
  const confirmed = await withPresentLayers(context, sandbox.id, vm);
  if (confirmed === vm) return requireRunningVm(sandbox);
  const { lifecycle } = sandbox;
  if (lifecycle.state === 'running') sandbox.transition({ ...lifecycle, vm: confirmed });
  await recordRunning(context, sandbox.identity, confirmed);
  return requireRunningVm(sandbox);
}
