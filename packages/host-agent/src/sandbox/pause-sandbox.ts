import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import { allSettled } from '../all-settled.ts';
import type { DiskSeal } from '../storage/snapshot-manifest.ts';
import { attempt } from './clean-up.ts';
import { endSandbox } from './end-sandbox.ts';
import type { HostState } from './host-state.ts';
import { letGoOn } from './let-go-on.ts';
import type { PausedVm, RunningVm, Stall } from './lifecycle.ts';
import type { LiveSandbox } from './live-sandbox.ts';
import { prepareGuest, unprepareGuest } from './prepare-guest.ts';
import { withPresentLayers } from './present-layers.ts';
import { requireRunningVm, standsStill } from './require-state.ts';
import { settleNextFiles } from './resume-sandbox.ts';
import type { PauseOptions, SandboxInfo } from './sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';
import { toSandboxError } from './sandbox-error.ts';
import { saveInto, sealState } from './save-state.ts';
import { lookBeforeSave, stallOf } from './stall-watch.ts';
import type { Trace } from './trace.ts';
import { recordPaused, recordRunning } from './write-record.ts';

export interface Pause extends PauseOptions {
  /** Called when the sandbox is safe on the disk; what it held of the host is given back after that. */
  readonly onPaused: (info: SandboxInfo) => void;
}

/**
 * Writes a sandbox to the disk and ends its VM. Until its record says "paused" it can go on, and does when a step fails;
 * after that it cannot, and its VM is ended whatever happens. Alone with its sandbox id.
 */
export async function pauseSandbox(host: HostState, sandboxId: string, pause: Pause, trace: Trace): Promise<void> {
  const { context, table } = host;
  const sandbox = table.require(sandboxId);
  requireRunningVm(sandbox);
  if (!context.driver.features.pause || (pause.memory && !context.driver.features.snapshot))
    throw new NestboxError('not_supported', `The VM manager ${context.driver.name} cannot pause sandboxes.`);
  try {
    await pauseRunning(host, sandbox, pause, trace);
  } catch (error) {
    tellFailure(context, sandbox, error);
    throw error;
  }
}

async function pauseRunning(host: HostState, sandbox: LiveSandbox, pause: Pause, trace: Trace): Promise<void> {
  const { context, vms, tidier, room } = host;
  const sandboxId = sandbox.id;
  // It gives a VM another list of layers.
  await tidier.stop(sandboxId);
  // Whether or not the pause succeeds.
  using after = new DisposableStack();
  after.defer(() => tidier.begin(sandbox));
  using held = new DisposableStack();
  await allSettled([
    lookBeforeSave(context, sandbox),
    room.reserve(sandboxId).then((reserved) => held.use(reserved)),
    settleNextFiles(context, sandboxId),
  ]);
  const vm = requireRunningVm(sandbox);
  sandbox.transition({ state: 'pausing', vm });
  sandbox.note(pause.notes);
  vms.unwatch(sandboxId);
  let paused: PausedVm;
  try {
    await trace.measure('drain', () => context.traffic.drain(sandboxId));
    await trace.measure('prepare', () => prepareGuest(context, sandbox, vm, { syncDisk: !pause.memory }));
    if (!pause.memory) await requireWritten(context, vm, sandboxId);
    paused = await writeToDisk(host, sandbox, vm, pause.memory, trace);
  } catch (error) {
    await goOn(host, sandbox, vm, error, { syncDisk: !pause.memory });
    throw toSandboxError(error, sandboxId);
  }
  sandbox.transition({ state: 'paused', paused });
  context.logger.info({ sandboxId, memory: pause.memory }, 'a sandbox is paused');
  pause.onPaused(sandbox.info);
  // Whoever waits for the answer gets it before the host has the work of taking a VM down.
  await nextTurn();
  await giveBack(host, sandboxId, vm);
}

/** In its log, since nobody waits for the answer of a pause at the end of its time. The same reason is told once: it is tried again and again. */
function tellFailure({ telemetry }: SandboxContext, sandbox: LiveSandbox, error: unknown): void {
  const why = error instanceof Error ? error.message : String(error);
  if (sandbox.lifecycle.state !== 'running' || !sandbox.failPause(why)) return;
  void telemetry.note(sandbox.id, 'warn', `Sandbox could not be paused: ${why}`);
}

/** What a guest that stands still could not write would be lost with its memory. */
async function requireWritten({ driver }: SandboxContext, { handle }: RunningVm, sandboxId: string): Promise<void> {
  const status = await driver.status(handle);
  if (status.state === 'stalled') throw standsStill(sandboxId, stallOf(status));
}

async function writeToDisk(
  { context }: HostState,
  sandbox: LiveSandbox,
  recorded: RunningVm,
  memory: boolean,
  trace: Trace,
): Promise<PausedVm> {
  const { driver, layout } = context;
  const folder = layout.sandboxDir(sandbox.id);
  const draft = layout.sandboxPauseDraft(sandbox.id);
  const pausedAtMs = Date.now();
  const [, vm] = await trace.measure('freeze', () =>
    allSettled([
      driver.pause(recorded.handle),
      withPresentLayers(context, sandbox.id, recorded),
      memory ? makeDraft(draft) : Promise.resolve(),
    ]),
  );
  const { machine } = vm;
  let disk: DiskSeal;
  if (memory) {
    await saveInto(context, sandbox, vm, draft, trace);
    disk = await context.disks.seal(folder, machine.layers);
    await trace.measure('sync', async () => {
      await sealState(context, sandbox, vm, draft, disk);
      renameSync(draft, layout.sandboxPauseDir(sandbox.id));
    });
  } else {
    disk = await context.disks.seal(folder, machine.layers);
  }
  const paused: PausedVm = { machine, memory, disk, pausedAtMs, damage: undefined };
  await trace.measure('record', () => recordPaused(context, sandbox.identity, paused));
  return paused;
}

/** Empty: a pause before this one may have ended half-way. */
async function makeDraft(draft: string): Promise<void> {
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { mode: 0o700 });
}

/** A pause that failed leaves a sandbox that runs, or, when that is not possible any more, none. */
async function goOn(
  host: HostState,
  sandbox: LiveSandbox,
  vm: RunningVm,
  cause: unknown,
  prepared: { readonly syncDisk: boolean },
): Promise<void> {
  const { context, vms } = host;
  const { layout, logger, traffic } = context;
  logger.warn({ err: cause, sandboxId: sandbox.id }, 'a sandbox could not be paused');
  // What failed may have been written all the same.
  await attempt(context, sandbox.id, 'recording that it runs', () => recordRunning(context, sandbox.identity, vm));
  for (const folder of [layout.sandboxPauseDraft(sandbox.id), layout.sandboxPauseDir(sandbox.id)])
    await attempt(context, sandbox.id, 'removing what a pause left', () =>
      rm(folder, { recursive: true, force: true }),
    );
  let stall: Stall | undefined;
  try {
    stall = await letGoOn(context, sandbox.id, vm);
  } catch (error) {
    logger.error({ err: error, sandboxId: sandbox.id }, 'after a pause that failed the VM does not go on');
    const why = error instanceof Error ? error.message : String(error);
    await endSandbox(host, sandbox, `It could not be paused, and then its VM did not go on: ${why}`);
    return;
  }
  if (stall === undefined) await unprepareGuest(context, sandbox, vm, prepared);
  sandbox.transition({ state: 'running', vm, stall });
  vms.watch(sandbox, vm);
  traffic.admit(sandbox.id);
}

/** The VM is of no use any more, whatever its guest would say: it is not asked to end. */
async function giveBack({ context }: HostState, sandboxId: string, vm: RunningVm): Promise<void> {
  const { driver, networks, layout } = context;
  vm.guest.close();
  await attempt(context, sandboxId, 'ending the VM', () => driver.destroy(vm.handle, { graceful: false }));
  await attempt(context, sandboxId, 'removing the network', () => networks.release(vm.slot));
  await attempt(context, sandboxId, 'removing the run folder', () =>
    rm(layout.sandboxRunDir(sandboxId), { recursive: true, force: true }),
  );
}
