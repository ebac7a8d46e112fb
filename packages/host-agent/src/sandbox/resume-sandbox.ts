import { rename, rm } from 'node:fs/promises';
import { type ErrorCode, NestboxError } from '@nestbox/contract';
import { allSettled } from '../all-settled.ts';
import { createBlankImage } from '../memory/memory-image.ts';
import { linkFile, machineFiles } from '../storage/machine-folder.ts';
import { readManifest, requirePresent } from '../storage/snapshot-manifest.ts';
import { attempt } from './clean-up.ts';
import { incompatible } from './create-plan.ts';
import type { HostState } from './host-state.ts';
import type { PausedVm, RunningVm } from './lifecycle.ts';
import type { LiveSandbox } from './live-sandbox.ts';
import { requireRunningVm } from './require-state.ts';
import type { ResumeOptions, SandboxInfo } from './sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';
import { toSandboxError, withAdvice } from './sandbox-error.ts';
import { abandonMachine, type MachineStart, type StartKind, startMachine } from './start-machine.ts';
import { makeRoom } from './start-sandbox.ts';
import type { Trace } from './trace.ts';
import { recordPaused, recordRunning } from './write-record.ts';

/** `memory: false` boots from the disk. */
export interface Resume extends ResumeOptions {
  /** Called when the guest agent is ready; what was kept for the case of a failure is removed after that. */
  readonly onRunning: (info: SandboxInfo) => void;
}

/**
 * Lets a paused sandbox go on. It writes to a disk of its own, so that until its record says "running" everything that was paused
 * is as it was, whatever fails or ends. Alone with its sandbox id.
 */
export async function resumeSandbox(
  host: HostState,
  sandboxId: string,
  resume: Resume,
  signal: AbortSignal,
  trace: Trace,
): Promise<void> {
  const { context, table, gate, vms, tidier } = host;
  const sandbox = table.require(sandboxId);
  // Before its layers are read: the tidier gives it another list of them.
  await tidier.stop(sandboxId);
  const { lifecycle } = sandbox;
  if (lifecycle.state !== 'paused') {
    tidier.begin(sandbox);
    requireRunningVm(sandbox);
    resume.onRunning(sandbox.info);
    return;
  }
  const { paused } = lifecycle;
  if (paused.isRecordDamaged)
    throw withAdvice(
      new NestboxError('snapshot_damaged', paused.damage ?? 'Its record is damaged.'),
      'Put its sandbox.json back from a copy and start the server again, or kill the sandbox.',
    );
  const reboot = !resume.memory || !paused.memory;
  sandbox.transition({ state: 'resuming', paused });
  sandbox.note(resume.notes);
  if (resume.access !== undefined) sandbox.giveAccess(resume.access.token);
  let vm: RunningVm;
  try {
    await makeRoom(host, sandbox.identity);
    vm = await gate.run(
      () =>
        reboot ? startAgain(context, sandbox, paused, signal, trace) : goOn(context, sandbox, paused, signal, trace),
      signal,
    );
  } catch (error) {
    const known = toSandboxError(signal.aborted ? signal.reason : error, sandboxId);
    context.logger.warn({ err: known, sandboxId }, 'a sandbox could not be resumed; it stays paused');
    const damage = known.code === 'snapshot_damaged' ? known.message : paused.damage;
    sandbox.transition({ state: 'paused', paused: { ...paused, damage } });
    tidier.release(sandboxId);
    void context.telemetry.note(
      sandboxId,
      'warn',
      `Sandbox stays paused, since it could not be resumed: ${known.message}`,
    );
    throw advised(known, reboot);
  }
  sandbox.transition({ state: 'running', vm, stall: undefined });
  vms.watch(sandbox, vm);
  context.traffic.admit(sandboxId);
  context.logger.info({ sandboxId, reboot, resumeMs: Math.round(trace.elapsedMs) }, 'a sandbox goes on');
  resume.onRunning(sandbox.info);
  await attempt(context, sandboxId, 'removing the state that was resumed', async () => {
    await rm(context.layout.sandboxPauseDir(sandboxId), { recursive: true, force: true });
    const left = paused.machine.layers.filter((name) => !vm.machine.layers.includes(name));
    for (const name of left) await rm(machineFiles(context.layout.sandboxDir(sandboxId)).layer(name), { force: true });
  });
  tidier.begin(sandbox);
}

/** With these a boot from the disk may do what the memory does not. */
const OF_THE_MEMORY: ReadonlySet<ErrorCode> = new Set([
  'snapshot_damaged',
  'snapshot_incompatible',
  'vm_died',
  'boot_timeout',
]);

function advised(error: NestboxError, reboot: boolean): NestboxError {
  if (!reboot && OF_THE_MEMORY.has(error.code))
    return withAdvice(
      error,
      'It stays paused. Its disk may boot without its memory: connect with `memory: false`, or `nestbox sandbox resume --reboot`.',
    );
  if (error.code !== 'snapshot_damaged') return error;
  return withAdvice(error, 'It stays paused. Put the file back from a copy, or kill the sandbox.');
}

async function goOn(
  context: SandboxContext,
  sandbox: LiveSandbox,
  paused: PausedVm,
  signal: AbortSignal,
  trace: Trace,
): Promise<RunningVm> {
  const { driver, layout, imageGuard, diskGuard } = context;
  const folder = layout.sandboxDir(sandbox.id);
  const pauseDir = layout.sandboxPauseDir(sandbox.id);
  const how = await trace.measure('verify', async (): Promise<StartKind> => {
    const [manifest, here] = await Promise.all([
      readManifest(pauseDir),
      driver.snapshotMachine(),
      imageGuard.requireIntact(folder),
      // The record's seal counts, not the manifest's: layers may have been merged since.
      diskGuard.requireIntact(folder, paused.disk, signal),
    ]);
    if (manifest.machine !== here) throw incompatible(`sandbox ${sandbox.id}`, manifest.machine, here);
    const files = machineFiles(pauseDir);
    // To the VM's driver it would be a file of the installation.
    if (manifest.hasPages) await requirePresent(files.pages);
    const state = { devicesPath: files.devices, pagesPath: manifest.hasPages ? files.pages : undefined };
    const { kernelVersion, agentDiskHash } = manifest;
    return { kind: 'restore', state, kernelVersion, agentDiskHash };
  });
  return onOwnDisk(context, sandbox, paused, { how }, signal, trace);
}

/** Boots from the disk, on a blank memory image and with the agent of today. */
async function startAgain(
  context: SandboxContext,
  sandbox: LiveSandbox,
  paused: PausedVm,
  signal: AbortSignal,
  trace: Trace,
): Promise<RunningVm> {
  const [images] = await Promise.all([
    context.currentImages(),
    context.diskGuard.requireBootable(context.layout.sandboxDir(sandbox.id), paused.disk, signal),
  ]);
  const next = nextFiles(context, sandbox.id);
  await using undo = new AsyncDisposableStack();
  await removeNextFiles(context, sandbox.id);
  undo.defer(() => removeNextFiles(context, sandbox.id));
  await allSettled([
    createBlankImage(next.memory, sandbox.identity.memoryMib * 2 ** 20),
    linkFile(images.agentDiskPath, next.agentDisk),
  ]);
  const start = { how: { kind: 'boot', images }, memoryPath: next.memory, agentDiskPath: next.agentDisk } as const;
  const vm = await onOwnDisk(context, sandbox, paused, start, signal, trace);
  undo.move();
  // The sandbox runs; what fails here the next pause, copy or start repeats.
  await attempt(context, sandbox.id, 'giving the files of a boot their names', () =>
    settleNextFiles(context, sandbox.id),
  );
  return vm;
}

async function onOwnDisk(
  context: SandboxContext,
  sandbox: LiveSandbox,
  paused: PausedVm,
  start: Pick<MachineStart, 'how' | 'memoryPath' | 'agentDiskPath'>,
  signal: AbortSignal,
  trace: Trace,
): Promise<RunningVm> {
  const { layout, disks } = context;
  const { identity } = sandbox;
  const folder = layout.sandboxDir(sandbox.id);
  await using undo = new AsyncDisposableStack();
  const files = machineFiles(folder);
  const source = { folder, layers: paused.machine.layers, bottomPath: files.rootfs };
  const layers = await trace.measure('files', () =>
    disks.derive(source, { folder, diskMib: identity.diskMib }, signal),
  );
  undo.defer(() => attempt(context, sandbox.id, 'removing a disk', () => rm(files.layer(layers[0] ?? ''))));
  const vm = await startMachine(context, { identity, layers, ...start }, signal, trace);
  undo.defer(() => abandonMachine(context, sandbox.id, vm));
  undo.defer(() => attempt(context, sandbox.id, 'recording the pause', () => recordPaused(context, identity, paused)));
  signal.throwIfAborted();
  await trace.measure('record', () => recordRunning(context, identity, vm));
  undo.move();
  return vm;
}

/** Where a boot from the disk puts what will be the sandbox's memory image and agent disk when it has worked. */
function nextFiles({ layout }: SandboxContext, sandboxId: string) {
  const { memory, agentDisk } = machineFiles(layout.sandboxDir(sandboxId));
  return { memory: `${memory}.next`, agentDisk: `${agentDisk}.next` } as const;
}

export async function removeNextFiles(context: SandboxContext, sandboxId: string): Promise<void> {
  for (const path of Object.values(nextFiles(context, sandboxId))) await rm(path, { force: true });
}

/**
 * Gives them their names, which whoever saves or links the machine goes by; also after a failure or a crash that came between the record and
 * this. Throws what the system says.
 */
export async function settleNextFiles(context: SandboxContext, sandboxId: string): Promise<void> {
  const files = machineFiles(context.layout.sandboxDir(sandboxId));
  const next = nextFiles(context, sandboxId);
  // The map first: without it the image is blank, which is what the next one is.
  if (await renameIfThere(next.agentDisk, files.agentDisk)) await rm(files.memoryMap, { force: true });
  await renameIfThere(next.memory, files.memory);
}

async function renameIfThere(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    // Renaming one link of a file to another of the same does nothing. Source: rename(2).
    await rm(from, { force: true });
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false;
    throw error;
  }
}
