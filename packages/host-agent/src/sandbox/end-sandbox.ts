import { NestboxError } from '@nestbox/contract';
import { removeHoldings } from './clean-up.ts';
import type { HostState } from './host-state.ts';
import type { RunningVm } from './lifecycle.ts';
import type { LiveSandbox } from './live-sandbox.ts';
import { consoleTail } from './sandbox-error.ts';
import { recordStopping } from './write-record.ts';

/** Ends a sandbox that runs or is paused, or whose end did not work before. Alone with its sandbox id. */
export async function endSandbox(host: HostState, sandbox: LiveSandbox, reason: string): Promise<void> {
  const { context, table, vms, tidier } = host;
  // It writes to the folder that goes.
  await tidier.drop(sandbox.id);
  const { lifecycle } = sandbox;
  if (lifecycle.state !== 'stopping') {
    const remains = 'vm' in lifecycle ? lifecycle.vm : undefined;
    vms.unwatch(sandbox.id);
    sandbox.transition({ state: 'stopping', reason, remains });
    // The log outlives the folder and the VM.
    await host.collector.last(sandbox, remains);
    remains?.guest.close();
    await recordStopping(context, sandbox);
  }
  const stopping = sandbox.lifecycle;
  if (stopping.state !== 'stopping') return;
  const { remains } = stopping;
  try {
    await removeHoldings(context, { sandboxId: sandbox.id, vm: remains?.handle, slot: remains?.slot });
  } catch (error) {
    throw new NestboxError('internal', `Sandbox ${sandbox.id} could not be ended; try again.`, { cause: error });
  }
  table.remove(sandbox, stopping.reason);
  context.logger.info({ sandboxId: sandbox.id, reason: stopping.reason }, 'a sandbox is gone');
}

/** What becomes of a sandbox whose VM has ended by itself. */
export async function vmExited(host: HostState, sandbox: LiveSandbox, vm: RunningVm, reason: string): Promise<void> {
  await host.serial.run(sandbox.id, async () => {
    const { lifecycle } = sandbox;
    if (lifecycle.state !== 'running' || lifecycle.vm.handle !== vm.handle) return;
    const tail = await consoleTail(host.context.layout.sandboxConsole(sandbox.id));
    await endSandbox(
      host,
      sandbox,
      `Its VM ended: ${reason}${tail === '' ? '' : `\nThe guest's console ends with:\n${tail}`}`,
    );
  });
}
