import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { NestboxPaths } from '@nestbox/kit';
import type { VmHandle, VmStatus } from '../vmm/driver.ts';
import { attempt, removeFiles, removeHoldings } from './clean-up.ts';
import type { RunningVm } from './lifecycle.ts';
import type { SandboxRecord } from './record.ts';
import type { SandboxContext } from './sandbox-context.ts';

export interface RecoveredSandbox {
  readonly record: SandboxRecord;
  readonly vm: RunningVm;
  readonly stall: string | undefined;
}

type Survivor = { readonly record: SandboxRecord; readonly handle: VmHandle; readonly status: VmStatus };

/**
 * Finds again what runs, by what is on disk and in the kernel, and removes everything else: half-made sandboxes, dead VMs,
 * VMMs, networks and folders that belong to no sandbox. VMs first, since their disks and networks go after them.
 */
export async function recoverSandboxes(context: SandboxContext, paths: NestboxPaths): Promise<RecoveredSandbox[]> {
  const { records, driver, networks, logger } = context;
  const { records: found, damaged } = await records.list();
  for (const { sandboxId, reason } of damaged)
    logger.error({ sandboxId, reason }, 'a sandbox has no usable record; what is left of it is removed');

  const looked = await Promise.all(found.map(({ record }) => lookAt(context, record)));
  const survivors = looked.filter((entry) => 'handle' in entry);
  const dead = looked.filter((entry) => 'why' in entry);

  for (const { record, why } of dead) {
    logger.warn({ sandboxId: record.sandboxId, why }, 'a sandbox did not survive and is removed');
    const { vm } = record;
    if (vm !== undefined) await attempt(context, record.sandboxId, 'ending the VM', () => driver.destroy(vm));
  }
  const strays = await driver.removeStrays(survivors.map(({ handle }) => handle));
  const report = await networks.reconcile(survivors.map(({ record }) => record.slot.index));
  for (const { record } of dead) await removeFiles(context, record.sandboxId);
  for (const { sandboxId } of damaged) await removeFiles(context, sandboxId);
  const runDirs = await removeOrphanRunDirs(context, paths, new Set(survivors.map(({ record }) => record.sandboxId)));

  const lost = new Set(report.lost);
  const attached = await Promise.all(survivors.map((survivor) => attach(context, survivor, lost)));
  const recovered = attached.filter((entry) => entry !== undefined);
  const removed = dead.length + damaged.length + survivors.length - recovered.length;
  if (removed + recovered.length + strays.length + report.removed.length + runDirs.length > 0)
    logger.info(
      { running: recovered.length, removed, strayVmms: strays, networks: report.removed, runDirs },
      'found what the last host agent left',
    );
  return recovered;
}

async function lookAt(
  { driver, logger }: SandboxContext,
  record: SandboxRecord,
): Promise<Survivor | { readonly record: SandboxRecord; readonly why: string }> {
  const { vm: handle } = record;
  if (handle === undefined || record.state !== 'running') return { record, why: `it was ${record.state}` };
  try {
    const status = await driver.status(handle);
    return status.state === 'gone' ? { record, why: status.reason } : { record, handle, status };
  } catch (error) {
    // A VMM that lives but does not answer: its guest's agent decides.
    logger.warn({ err: error, sandboxId: record.sandboxId }, 'a VMM does not say how its VM is');
    return { record, handle, status: { state: 'running' } };
  }
}

/** Makes the guest reachable again. Undefined when that is not possible: then it has been removed. */
async function attach(
  context: SandboxContext,
  { record, handle, status }: Survivor,
  lostSlots: ReadonlySet<number>,
): Promise<RecoveredSandbox | undefined> {
  const { driver, networks, logger } = context;
  const { sandboxId, slot } = record;
  const guest = context.guestClient({ address: slot.hostReachableAddress, accessToken: record.accessToken });
  const vm: RunningVm = { handle, slot, guest, envdVersion: record.envdVersion };
  try {
    if (lostSlots.has(slot.index)) throw new Error('its network is gone');
    await networks.setInternetAccess(slot, record.allowInternetAccess);
    if (status.state === 'stalled') return { record, vm, stall: status.reason };
    // Only a host agent that died in the middle of something leaves a guest paused.
    if (status.state === 'paused') await driver.resume(handle);
    return { record, vm, stall: undefined };
  } catch (error) {
    guest.close();
    logger.warn({ err: error, sandboxId }, 'a sandbox that was running cannot be taken over and is removed');
    await attempt(context, sandboxId, 'removing the sandbox', () =>
      removeHoldings(context, { sandboxId, vm: handle, slot }),
    );
    return undefined;
  }
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
