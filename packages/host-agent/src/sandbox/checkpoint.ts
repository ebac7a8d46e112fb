import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { linkMachine, machineFiles } from '../storage/machine-folder.ts';
import { attempt } from './clean-up.ts';
import type { SavedMachine } from './create-plan.ts';
import { endSandbox } from './end-sandbox.ts';
import type { HostState } from './host-state.ts';
import type { RunningVm } from './lifecycle.ts';
import type { LiveSandbox } from './live-sandbox.ts';
import { prepareGuest, unprepareGuest } from './prepare-guest.ts';
import { confirmLayers } from './present-layers.ts';
import { saveInto } from './save-state.ts';
import type { Trace } from './trace.ts';
import { recordRunning } from './write-record.ts';

/** A running sandbox as it was at one moment, in a folder of its own that is removed when this is disposed of. */
export interface Checkpoint extends SavedMachine, AsyncDisposable {
  readonly sandbox: LiveSandbox;
  readonly vm: RunningVm;
}

/**
 * Copies a running sandbox at one moment: devices and changed pages as files, everything else as links. The sandbox stands
 * still for the copying only, and then goes on on a new disk layer, since the old ones belong to the copy as well. When
 * something fails it goes on; when it cannot, it is ended. Alone with its sandbox id.
 */
export async function checkpoint(host: HostState, sandboxId: string, trace: Trace): Promise<Checkpoint> {
  const { context, table, tidier } = host;
  const { layout } = context;
  const sandbox = table.require(sandboxId);
  await tidier.stop(sandboxId);
  const vm = await confirmLayers(context, sandbox);
  const { machine } = vm;
  const source = layout.sandboxDir(sandboxId);
  const folder = join(layout.transitDir, `${sandboxId}-${randomBytes(4).toString('hex')}`);
  await using undo = new AsyncDisposableStack();
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const remove = () =>
    attempt(context, sandboxId, 'removing a checkpoint', () => rm(folder, { recursive: true, force: true }));
  undo.defer(remove);
  await using undoLayer = new AsyncDisposableStack();
  const top = await trace.measure('files', async () => {
    const name = await context.diskLayers.create({
      folder: source,
      below: machine.layers[0],
      diskMib: sandbox.identity.diskMib,
    });
    undoLayer.defer(() =>
      attempt(context, sandboxId, 'removing a layer', () => rm(machineFiles(source).layer(name), { force: true })),
    );
    await linkMachine({ folder: source, layers: machine.layers, memory: true }, folder);
    return name;
  });
  const prepared = { syncDisk: false };
  await trace.measure('prepare', () => prepareGuest(context, sandbox, vm, prepared));
  const layered = { ...vm, machine: { ...machine, layers: [top, ...machine.layers] } };
  try {
    await trace.measure('frozen', () => copyWhileFrozen(host, sandbox, layered, folder, trace));
  } catch (error) {
    if (sandbox.lifecycle.state === 'running') await unprepareGuest(context, sandbox, vm, prepared);
    throw error;
  }
  undoLayer.move();
  sandbox.transition({ state: 'running', vm: layered, stall: undefined });
  try {
    await trace.measure('record', () => recordRunning(context, sandbox.identity, layered));
  } finally {
    await unprepareGuest(context, sandbox, vm, prepared);
  }
  undo.move();
  const { kernelVersion, agentDiskHash } = machine;
  return {
    sandbox,
    vm,
    folder,
    layers: machine.layers,
    hasPages: true,
    kernelVersion,
    agentDiskHash,
    [Symbol.asyncDispose]: remove,
  };
}

/** On return the VM runs, on the new layer. When it throws the VM runs as before, or the sandbox has been ended. */
async function copyWhileFrozen(
  host: HostState,
  sandbox: LiveSandbox,
  layered: RunningVm,
  folder: string,
  trace: Trace,
): Promise<void> {
  const { driver, layout } = host.context;
  const { handle, machine } = layered;
  const newTop = machineFiles(layout.sandboxDir(sandbox.id)).layer(machine.layers[0] ?? '');
  let failure: unknown;
  try {
    await driver.pause(handle);
    await saveInto(host.context, sandbox, layered, folder, trace);
    await trace.measure('disk', () => driver.switchDisk(handle, newTop));
  } catch (error) {
    // A switch whose answer did not come may have been carried out; then there is no way back, and none is needed.
    const switched = await driver.rootDiskPath(handle).then(
      (path) => path === newTop,
      () => false,
    );
    if (!switched) failure = error;
  }
  try {
    await driver.resume(handle);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    await endSandbox(host, sandbox, `Its VM did not go on after it had been copied: ${why}`);
    throw failure ?? error;
  }
  if (failure !== undefined) throw failure;
}
