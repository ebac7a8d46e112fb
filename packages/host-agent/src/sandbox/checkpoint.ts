import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { linkMachine } from '../storage/machine-folder.ts';
import { attempt } from './clean-up.ts';
import type { SavedMachine } from './create-plan.ts';
import { endSandbox } from './end-sandbox.ts';
import type { HostState } from './host-state.ts';
import { letGoOn } from './let-go-on.ts';
import type { RunningVm, Stall } from './lifecycle.ts';
import type { LiveSandbox } from './live-sandbox.ts';
import { prepareGuest, unprepareGuest } from './prepare-guest.ts';
import { confirmLayers } from './present-layers.ts';
import { settleNextFiles } from './resume-sandbox.ts';
import type { DiskCopy } from './root-disks.ts';
import { saveInto } from './save-state.ts';
import { lookBeforeSave } from './stall-watch.ts';
import type { Trace } from './trace.ts';
import { recordRunning } from './write-record.ts';

/** A running sandbox as it was at one moment, in a folder of its own that is removed when this is disposed of. */
export interface Checkpoint extends SavedMachine, AsyncDisposable {
  readonly sandbox: LiveSandbox;
  readonly vm: RunningVm;
}

/**
 * Copies a running sandbox at one moment: devices and changed pages as files, its disk in the way of the host's disks, everything
 * else as links. The sandbox stands still for the copying only. When something fails it goes on; when it cannot, it is ended.
 * Alone with its sandbox id.
 */
export async function checkpoint(host: HostState, sandboxId: string, trace: Trace): Promise<Checkpoint> {
  const { context, table, tidier } = host;
  const { layout } = context;
  const sandbox = table.require(sandboxId);
  await tidier.stop(sandboxId);
  await lookBeforeSave(context, sandbox);
  const vm = await confirmLayers(context, sandbox);
  await settleNextFiles(context, sandboxId);
  const { machine } = vm;
  const source = layout.sandboxDir(sandboxId);
  const folder = join(layout.transitDir, `${sandboxId}-${randomBytes(4).toString('hex')}`);
  await using undo = new AsyncDisposableStack();
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const remove = () =>
    attempt(context, sandboxId, 'removing a checkpoint', () => rm(folder, { recursive: true, force: true }));
  undo.defer(remove);
  await using undoDisk = new AsyncDisposableStack();
  const disk = await trace.measure('files', async () => {
    const target = { folder, ownFolder: source, diskMib: sandbox.identity.diskMib };
    const copy = await context.disks.prepareCopy(vm, target, undoDisk);
    await linkMachine(source, folder);
    return copy;
  });
  const prepared = { syncDisk: false };
  await trace.measure('prepare', () => prepareGuest(context, sandbox, vm, prepared));
  const after = { ...vm, machine: { ...machine, layers: disk.own } };
  let stall: Stall | undefined;
  try {
    stall = await trace.measure('frozen', () => copyWhileFrozen(host, sandbox, { vm, folder, disk }, trace));
  } catch (error) {
    if (isGoingOn(sandbox)) await unprepareGuest(context, sandbox, vm, prepared);
    throw error;
  }
  undoDisk.move();
  sandbox.transition({ state: 'running', vm: after, stall });
  try {
    await trace.measure('record', () => recordRunning(context, sandbox.identity, after));
  } finally {
    if (isGoingOn(sandbox)) await unprepareGuest(context, sandbox, vm, prepared);
  }
  undo.move();
  const { kernelVersion, agentDiskHash } = machine;
  return {
    sandbox,
    vm,
    folder,
    layers: disk.layers,
    hasPages: true,
    kernelVersion,
    agentDiskHash,
    [Symbol.asyncDispose]: remove,
  };
}

/**
 * Goes on with what a checkpoint stopped, whether or not it succeeded: it may have added a layer. In the sandbox's turn, since whoever has it
 * by then may have stopped that again.
 */
export function tidyInTurn({ serial, table, tidier }: HostState, sandboxId: string): void {
  void serial.run(sandboxId, async () => {
    const sandbox = table.get(sandboxId);
    if (sandbox !== undefined) tidier.begin(sandbox);
  });
}

function isGoingOn({ lifecycle }: LiveSandbox): boolean {
  return lifecycle.state === 'running' && lifecycle.stall === undefined;
}

/**
 * On return the VM has the disk that it is to have, and runs unless its VMM does not answer. When it throws the sandbox is as before but for that,
 * or has been ended.
 */
async function copyWhileFrozen(
  host: HostState,
  sandbox: LiveSandbox,
  { vm, folder, disk }: { readonly vm: RunningVm; readonly folder: string; readonly disk: DiskCopy },
  trace: Trace,
): Promise<Stall | undefined> {
  const { driver } = host.context;
  const { handle } = vm;
  let stall: Stall | undefined;
  let failure: unknown;
  try {
    await driver.pause(handle);
    await saveInto(host.context, sandbox, vm, folder, trace);
    await trace.measure('disk', () => disk.take());
  } catch (error) {
    failure = error;
  }
  try {
    stall = await letGoOn(host.context, sandbox.id, vm);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    await endSandbox(host, sandbox, `Its VM did not go on after it had been copied: ${why}`);
    throw failure ?? error;
  }
  if (failure === undefined) return stall;
  if (stall !== undefined) sandbox.transition({ state: 'running', vm, stall });
  throw failure;
}
