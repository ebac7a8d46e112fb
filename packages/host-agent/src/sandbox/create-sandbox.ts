import { mkdir } from 'node:fs/promises';
import { allSettled } from '../all-settled.ts';
import { removeFiles } from './clean-up.ts';
import type { CreatePlan } from './create-plan.ts';
import type { RunningVm } from './lifecycle.ts';
import type { SandboxIdentity } from './live-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';
import { toSandboxError, withConsoleTail } from './sandbox-error.ts';
import { abandonMachine, startMachine } from './start-machine.ts';
import type { Trace } from './trace.ts';
import { recordRunning, recordStarting } from './write-record.ts';

/**
 * From nothing to an initialised guest agent: folder, disk, record, network, VM, agent. On any failure everything is
 * undone, the VM before its disk. `recorded: false` leaves the record "starting": the VM ends with this host agent.
 * Throws NestboxError; an abort throws the signal's reason.
 */
export async function createMachine(
  context: SandboxContext,
  identity: SandboxIdentity,
  plan: CreatePlan,
  signal: AbortSignal,
  trace: Trace,
  { recorded } = { recorded: true },
): Promise<RunningVm> {
  const { layout, disks } = context;
  const { sandboxId } = identity.spec;
  const folder = layout.sandboxDir(sandboxId);
  await using undo = new AsyncDisposableStack();
  try {
    const layers = await trace.measure('files', async () => {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      undo.defer(() => removeFiles(context, sandboxId));
      const [made] = await allSettled([
        disks.derive(plan.disk, { folder, diskMib: identity.diskMib }, signal),
        plan.fillFolder(folder),
        recordStarting(context, identity),
      ]);
      return made;
    });
    const vm = await startMachine(context, { identity, layers, how: plan.how }, signal, trace);
    undo.defer(() => abandonMachine(context, sandboxId, vm));
    if (recorded) await trace.measure('record', () => recordRunning(context, identity, vm));
    signal.throwIfAborted();
    undo.move();
    return vm;
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    // Read now: the clean-up that follows removes the console with the folder.
    throw await withConsoleTail(toSandboxError(error, sandboxId), layout.sandboxConsole(sandboxId));
  }
}
