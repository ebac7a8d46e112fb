import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ENVD_VERSION, OPEN_EGRESS, parseEgressRules } from '@nestbox/contract';
import { isTemporaryFile, type NestboxPaths } from '@nestbox/kit';
import type { DamagedRecord } from '../storage/sandbox-records.ts';
import type { VmStatus } from '../vmm/driver.ts';
import { attempt, removeFiles, removeHoldings } from './clean-up.ts';
import { removeOtherLayers } from './disk-tidier.ts';
import { removeOtherSnapshots } from './install-snapshot.ts';
import type { Lifecycle, PausedVm, RunningVm } from './lifecycle.ts';
import { identityFromRecord, type SandboxIdentity } from './live-sandbox.ts';
import { presentLayers } from './present-layers.ts';
import type { SandboxRecord, Situation } from './record.ts';
import { sealedDisk } from './resting-disk.ts';
import { removeNextFiles, settleNextFiles } from './resume-sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';
import { stallOf } from './stall-watch.ts';
import { recordRunning } from './write-record.ts';

export interface Recovered {
  readonly identity: SandboxIdentity;
  readonly lifecycle: Extract<Lifecycle, { state: 'running' | 'paused' }>;
}

type RunningSituation = Extract<Situation, { state: 'running' }>;
type PausedSituation = Extract<Situation, { state: 'paused' }>;

interface Survivor {
  readonly record: SandboxRecord;
  readonly situation: RunningSituation;
  readonly status: VmStatus;
}

/**
 * Finds again what runs and what is paused, by what is on disk and in the kernel, and removes everything else: half-made
 * sandboxes, dead VMs, VMMs, networks and folders that belong to no sandbox. VMs first, since their disks and networks go
 * after them. What a crash interrupted is as it was before, or as it was to be; the log says which.
 */
export async function recoverSandboxes(context: SandboxContext, paths: NestboxPaths): Promise<Recovered[]> {
  const { records, driver, networks, layout, logger } = context;
  const { records: found, damaged } = await records.list();
  const kept = damaged.filter(mayBePaused);
  const lostForGood = damaged.filter((record) => !kept.includes(record));
  for (const { sandboxId, reason } of lostForGood)
    logger.error({ sandboxId, reason }, 'a sandbox has no usable record; what is left of it is removed');
  for (const { sandboxId, reason } of kept)
    logger.error({ sandboxId, reason }, 'the record of a sandbox is damaged; it stays, and cannot be resumed');

  const looked = await Promise.all(found.map(({ record }) => lookAt(context, record)));
  const survivors = looked.filter((entry) => 'status' in entry);
  const paused = looked.filter((entry) => 'paused' in entry);
  const dead = looked.filter((entry) => 'why' in entry);

  for (const { record, why } of dead) {
    logger.warn({ sandboxId: record.sandboxId, why }, 'a sandbox did not survive and is removed');
    const { situation } = record;
    if (situation.state === 'running')
      await attempt(context, record.sandboxId, 'ending the VM', () => driver.destroy(situation.vm));
  }
  const strays = await driver.removeStrays(survivors.map(({ situation }) => situation.vm));
  const report = await networks.reconcile(survivors.map(({ situation }) => situation.slot.index));
  for (const { record } of dead) await removeFiles(context, record.sandboxId);
  for (const { sandboxId } of lostForGood) await removeFiles(context, sandboxId);
  const runDirs = await removeOrphanRunDirs(context, paths, new Set(survivors.map(({ record }) => record.sandboxId)));
  for (const left of [layout.transitDir, layout.layerWorkDir]) await rm(left, { recursive: true, force: true });
  await removeLeftTemplates(context);

  const lost = new Set(report.lost);
  const attached = await Promise.all(survivors.map((survivor) => attach(context, survivor, lost)));
  const running = attached.filter((entry) => entry !== undefined);
  const resting = [...(await Promise.all(paused.map((entry) => keepPaused(context, entry)))), ...kept.map(keepDamaged)];
  const removed = dead.length + lostForGood.length + survivors.length - running.length;
  if (removed + running.length + resting.length + strays.length + report.removed.length + runDirs.length > 0)
    logger.info(
      {
        running: running.length,
        paused: resting.length,
        removed,
        strayVmms: strays,
        networks: report.removed,
        runDirs,
      },
      'found what the last host agent left',
    );
  return [...running, ...resting];
}

type Looked =
  | Survivor
  | { readonly record: SandboxRecord; readonly paused: PausedSituation }
  | { readonly record: SandboxRecord; readonly why: string };

async function lookAt({ driver, logger }: SandboxContext, record: SandboxRecord): Promise<Looked> {
  const { situation, sandboxId } = record;
  if (situation.state === 'paused') return { record, paused: situation };
  if (situation.state !== 'running') return { record, why: `it was ${situation.state}` };
  try {
    const status = await driver.status(situation.vm);
    return status.state === 'gone' ? { record, why: status.reason } : { record, situation, status };
  } catch (error) {
    // A VMM that lives but does not answer: its guest's agent decides.
    logger.warn({ err: error, sandboxId }, 'a VMM does not say how its VM is');
    return { record, situation, status: { state: 'running' } };
  }
}

/** Makes the guest reachable again. Undefined when that is not possible: then it has been removed. */
async function attach(
  context: SandboxContext,
  { record, situation, status }: Survivor,
  lostSlots: ReadonlySet<number>,
): Promise<Recovered | undefined> {
  const { driver, networks, logger, layout } = context;
  const { sandboxId } = record;
  const { vm: handle, slot } = situation;
  const guest = context.guestClient({ address: slot.hostReachableAddress, accessToken: record.accessToken });
  try {
    if (lostSlots.has(slot.index)) throw new Error('its network is gone');
    await networks.setEgress(slot, sandboxId, parseEgressRules(record));
    await settleNextFiles(context, sandboxId);
    await removeTemporaryFiles(layout.sandboxDir(sandboxId));
    await rm(layout.sandboxPauseDraft(sandboxId), { recursive: true, force: true });
    await rm(layout.sandboxPauseDir(sandboxId), { recursive: true, force: true });
    const present = await layersByVmm(context, sandboxId, situation);
    const layers = present ?? situation.machine.layers;
    const vm: RunningVm = { handle, slot, guest, machine: { ...situation.machine, layers } };
    await recordRunning(context, identityFromRecord(record), vm);
    // What a VM may be writing to stays.
    if (present !== undefined) await removeOtherLayers(layout.sandboxDir(sandboxId), layers);
    const identity = identityFromRecord(record);
    if (status.state === 'stalled') return { identity, lifecycle: { state: 'running', vm, stall: stallOf(status) } };
    // Only a host agent that died in the middle of something leaves a guest paused.
    if (status.state === 'paused') {
      logger.warn({ sandboxId }, 'a sandbox stood still, since the last host agent ended in the middle; it goes on');
      await driver.resume(handle);
    }
    return { identity, lifecycle: { state: 'running', vm, stall: undefined } };
  } catch (error) {
    guest.close();
    logger.warn({ err: error, sandboxId }, 'a sandbox that was running cannot be taken over and is removed');
    await attempt(context, sandboxId, 'removing the sandbox', () =>
      removeHoldings(context, { sandboxId, vm: handle, slot }),
    );
    return undefined;
  }
}

/** Undefined when the VMM does not say: its guest decides whether the sandbox lives, and the next pause or fork asks again. */
async function layersByVmm(
  context: SandboxContext,
  sandboxId: string,
  { vm: handle, machine }: RunningSituation,
): Promise<readonly string[] | undefined> {
  try {
    return await presentLayers(context, sandboxId, { handle, machine });
  } catch (error) {
    context.logger.warn({ err: error, sandboxId }, 'a VMM does not say which disk its VM has');
    return undefined;
  }
}

/** Removes what a resume or a pause that did not come to its end has left beside it. */
async function keepPaused(
  context: SandboxContext,
  { record, paused }: { readonly record: SandboxRecord; readonly paused: PausedSituation },
): Promise<Recovered> {
  const { layout } = context;
  const { sandboxId } = record;
  const { machine, memory, disk, pausedAtMs } = paused;
  await attempt(context, sandboxId, 'clearing up after a crash', async () => {
    await rm(layout.sandboxPauseDraft(sandboxId), { recursive: true, force: true });
    await removeNextFiles(context, sandboxId);
    await removeTemporaryFiles(layout.sandboxDir(sandboxId));
    await removeOtherLayers(layout.sandboxDir(sandboxId), machine.layers);
  });
  const damage = await context.diskGuard.knownDamage(sealedDisk(layout.sandboxDir(sandboxId), disk));
  const lifecycle = { state: 'paused', paused: { machine, memory, disk, pausedAtMs, damage } } as const;
  return { identity: identityFromRecord(record), lifecycle };
}

/**
 * Of a record that is not what was written it cannot be told whether a VM was there; only one that says so, or says nothing at all, is of a sandbox
 * that is over with its VM. What was paused is not destroyed for a bit.
 */
function mayBePaused({ kind, text = '' }: DamagedRecord<SandboxRecord>): boolean {
  return kind === 'unreadable' && text.trim() !== '' && !/"situation":\s*\{\s*"state":\s*"(?!paused)\w+"/.test(text);
}

function keepDamaged({ sandboxId, reason, record }: DamagedRecord<SandboxRecord>): Recovered {
  const paused: PausedVm = {
    machine: { layers: [], kernelVersion: '', agentDiskHash: '', envdVersion: ENVD_VERSION },
    memory: false,
    disk: { layers: [], topBytes: 0, topModifiedMs: 0 },
    pausedAtMs: 0,
    damage: `The record of sandbox ${sandboxId} is damaged: ${reason}.`,
    isRecordDamaged: true,
  };
  return {
    identity: record === undefined ? unknownIdentity(sandboxId) : identityFromRecord(record),
    lifecycle: { state: 'paused', paused },
  };
}

function unknownIdentity(sandboxId: string): SandboxIdentity {
  return {
    spec: { sandboxId, templateId: '', envVars: {}, accessToken: undefined, ...OPEN_EGRESS },
    templateId: '',
    vcpuCount: 0,
    memoryMib: 0,
    diskMib: 0,
    guest: { envVars: {}, defaultUser: '' },
    createdAtMs: 0,
  };
}

/** Templates without their file are snapshots that were not finished, or not quite deleted. */
async function removeLeftTemplates(context: SandboxContext): Promise<void> {
  const { layout, templates } = context;
  const { templates: known, damaged } = await templates.list();
  const complete = new Map(known.map(({ templateId, snapshot }) => [templateId, snapshot]));
  const kept = new Set([...complete.keys(), ...damaged.map(({ templateId }) => templateId)]);
  for (const name of await readdir(layout.templatesDir).catch(() => [])) {
    await attempt(context, name, 'removing what is left of a template', async () => {
      if (!kept.has(name)) await rm(layout.templateDir(name), { recursive: true, force: true });
      else await removeTemporaryFiles(layout.templateDir(name));
      if (complete.has(name)) await removeOtherSnapshots(layout.templateDir(name), complete.get(name));
    });
  }
}

/** What was to take the place of another file when the last host agent ended. */
async function removeTemporaryFiles(folder: string): Promise<void> {
  for (const name of (await readdir(folder)).filter(isTemporaryFile)) await rm(join(folder, name), { force: true });
}

/** Folders of sockets whose sandbox is not there. Files beside them are other people's. */
async function removeOrphanRunDirs(
  { logger }: SandboxContext,
  { runDir }: NestboxPaths,
  known: ReadonlySet<string>,
): Promise<string[]> {
  const entries = await readdir(runDir, { withFileTypes: true });
  const orphans = entries.filter(
    (entry) => entry.isDirectory() && SANDBOX_ID.test(entry.name) && !known.has(entry.name),
  );
  for (const { name } of orphans) {
    logger.debug({ runDir: name }, 'removing the run folder of a sandbox that is gone');
    await rm(join(runDir, name), { recursive: true, force: true });
  }
  return orphans.map(({ name }) => name);
}

/** Ids that this product makes; other rooms may keep folders of their own beside them. */
const SANDBOX_ID = /^i[a-z0-9]{20}$/;
