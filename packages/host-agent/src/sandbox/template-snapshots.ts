import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { NestboxError, newSandboxId, OPEN_EGRESS } from '@nestbox/contract';
import { allSettled } from '../all-settled.ts';
import { folderMark } from '../storage/folder-mark.ts';
import type { CurrentImages } from '../storage/images-file.ts';
import { linkMachine, machineFiles } from '../storage/machine-folder.ts';
import { readManifest, readManifestFile } from '../storage/snapshot-manifest.ts';
import type { Template } from '../storage/template-store.ts';
import type { BootGate } from './boot-gate.ts';
import { attempt, removeFiles } from './clean-up.ts';
import {
  bootPlan,
  builtDisk,
  type CreatePlan,
  incompatible,
  restorePlan,
  type SavedMachine,
  snapshotFolder,
} from './create-plan.ts';
import { createMachine } from './create-sandbox.ts';
import { installSnapshot } from './install-snapshot.ts';
import type { SandboxIdentity } from './live-sandbox.ts';
import { rehearseGuest } from './rehearse-guest.ts';
import type { SandboxContext } from './sandbox-context.ts';
import { withAdvice } from './sandbox-error.ts';
import { abandonMachine } from './start-machine.ts';
import { TemplateDamage, type TemplateKey } from './template-damage.ts';
import { Trace } from './trace.ts';

const WARM_UP_TIMEOUT_MS = 180_000;
/** What the warm-up set in motion in the guest comes to rest. */
const SETTLE_MS = 1500;
const RENEW_AGAIN_MS = 10 * 60_000;

type CheckedMachine = SavedMachine & { readonly machine: string };

interface Checked {
  /** What its files were then. */
  readonly mark: string;
  readonly outcome: Promise<CheckedMachine>;
}

/** The memory snapshots of this host's templates: which can be used, and how new ones come about. */
export class TemplateSnapshots {
  readonly #context: SandboxContext;
  readonly #gate: BootGate;
  readonly #stopping: AbortSignal;
  /** Being made, by template. */
  readonly #renewals = new Map<string, Promise<void>>();
  /** While `renewMissing` looks at a template and has not said yet whether its snapshot is made next. */
  #deciding: Promise<void> | undefined;
  /** Of those whose last one failed, by template and its time. */
  readonly #renewNotBefore = new Map<string, number>();
  /** By folder what was found of a snapshot, as long as its files are those that were looked at. */
  readonly #checked = new Map<string, Checked>();
  readonly #damage = new TemplateDamage();
  /** Reasons that stand in the log already. */
  readonly #told = new Set<string>();

  constructor(context: SandboxContext, gate: BootGate, stopping: AbortSignal) {
    this.#context = context;
    this.#gate = gate;
    this.#stopping = stopping;
  }

  /**
   * How a sandbox of this template comes about. With a snapshot that can be used here: a restore. Else a boot, and of a
   * template that was built the snapshot is renewed. A snapshot that is being made just now, or next, is waited for, though not for ever; an
   * abort throws the signal's reason. One that comes after another's is not: each takes a boot itself.
   */
  async plan(template: Template, images: CurrentImages, signal: AbortSignal, trace: Trace): Promise<CreatePlan> {
    if (!this.#enabled) return this.#boot(template, images);
    await this.#untilDecided(template, images, signal);
    const renewal = this.#renewals.get(template.templateId);
    if (renewal === undefined) return this.#planNow(template, images);
    const { templateId } = template;
    const enough = Promise.race([renewal, delay(this.#context.snapshotWaitMs, undefined, { ref: false })]);
    const waiting = trace.measure('wait for snapshot', () => settledOrAborted(enough, signal));
    this.#context.logger.info({ templateId }, 'a create waits for the snapshot of its template, which is being made');
    await waiting;
    return this.#planNow(await this.#context.templates.get(templateId), images);
  }

  /**
   * To be called when a restore by `plan` failed for the snapshot's own fault: of a template that was built a boot instead. Of a snapshot that a user
   * has taken the memory is what was asked for: it throws the error.
   */
  async planAfterFailure(template: Template, images: CurrentImages, error: NestboxError): Promise<CreatePlan> {
    const folder = snapshotFolder(this.#context, template);
    if (folder !== undefined) this.#checked.set(folder, { mark: folderMark(folder), outcome: refusal(error) });
    if (template.originSandboxId !== undefined) {
      this.noteDamage(template, error.message);
      throw withAdvice(error, adviceFor(template));
    }
    this.#tellOnce(template, error.message);
    return this.#boot(template, images);
  }

  /**
   * Makes the snapshots that templates which were built do not have, or have not fit for this host. One after another; throws
   * the first failure when all have been tried.
   */
  async renewMissing(onRenew: (template: Template) => void = () => {}): Promise<void> {
    if (!this.#enabled) return;
    const failures: unknown[] = [];
    let decided = this.#decide();
    try {
      const images = await this.#context.currentImages();
      for (const template of (await this.#context.templates.list()).templates) {
        this.#stopping.throwIfAborted();
        if (template.originSandboxId !== undefined || (await this.#usable(template, images)) !== undefined) continue;
        onRenew(template);
        const renewal = this.renew(template);
        decided();
        await renewal.catch((error: unknown) => failures.push(error));
        decided = this.#decide();
      }
    } finally {
      decided();
    }
    if (failures.length > 0) throw failures[0];
  }

  /** Boots the template, lets its agent serve what a first user asks, and saves that. Joins one that is under way. */
  renew(template: Template): Promise<void> {
    const { templateId } = template;
    const known = this.#renewals.get(templateId);
    if (known !== undefined) return known;
    const renewal = this.#renew(template).finally(() => this.#renewals.delete(templateId));
    this.#renewals.set(templateId, renewal);
    return renewal;
  }

  /** Not soon again after one that failed: creates wait for what is being made. */
  renewInBackground(template: Template): void {
    const { templateId, createdAtMs } = template;
    const key = `${templateId} ${createdAtMs}`;
    if (!this.#enabled || performance.now() < (this.#renewNotBefore.get(key) ?? 0)) return;
    this.renew(template).catch((error: unknown) => {
      this.#renewNotBefore.set(key, performance.now() + RENEW_AGAIN_MS);
      if (this.#stopping.aborted) return;
      this.#context.logger.warn({ err: error, templateId }, 'no snapshot of this template could be made; it boots');
    });
  }

  /** What was found of a snapshot holds for creates from now on. */
  distrust(template: Template, reason: string): void {
    const folder = snapshotFolder(this.#context, template);
    if (folder !== undefined) this.#checked.delete(folder);
    if (template.originSandboxId === undefined) this.#tellOnce(template, reason);
  }

  /** Undefined: it is whole. */
  noteDamage(template: TemplateKey, reason: string | undefined): void {
    if (this.#damage.set(template, reason))
      this.#context.logger.error({ templateId: template.templateId, reason }, 'a template or snapshot is damaged');
  }

  damageOf(template: TemplateKey): string | undefined {
    return this.#damage.of(template);
  }

  /** Resolves when none is being made any more. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#renewals.values());
  }

  /** Creates that come from now on wait for the answer's call: what is made next may be of their template. */
  #decide(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#deciding = promise;
    return () => {
      if (this.#deciding === promise) this.#deciding = undefined;
      resolve();
    };
  }

  /** Until it is known whether this template's snapshot is made next. Not for one that has one that can be used. */
  async #untilDecided(template: Template, images: CurrentImages, signal: AbortSignal): Promise<void> {
    while (
      this.#deciding !== undefined &&
      template.originSandboxId === undefined &&
      !this.#renewals.has(template.templateId)
    ) {
      if ((await this.#usable(template, images)) !== undefined) return;
      if (this.#deciding !== undefined) await settledOrAborted(this.#deciding, signal);
    }
  }

  get #enabled(): boolean {
    return this.#context.useSnapshots && this.#context.driver.features.snapshot;
  }

  async #planNow(template: Template, images: CurrentImages): Promise<CreatePlan> {
    const usable = await this.#usable(template, images);
    if (usable !== undefined) return restorePlan(usable);
    // Since it was read it may have got another snapshot, whose coming took the files of this one.
    const now = await this.#context.templates.get(template.templateId);
    const isRenewed =
      now.snapshot !== undefined && now.snapshot !== template.snapshot && now.createdAtMs === template.createdAtMs;
    if (isRenewed) return this.#planNow(now, images);
    try {
      return await this.#boot(template, images);
    } catch (error) {
      const isStill = now.createdAtMs === template.createdAtMs && now.snapshot === template.snapshot;
      if (!isStill || !isDamage(error)) throw error;
      this.noteDamage(template, error.message);
      throw withAdvice(error, adviceFor(template));
    }
  }

  async #boot(template: Template, images: CurrentImages): Promise<CreatePlan> {
    const { diskGuard, layout } = this.#context;
    if (template.originSandboxId === undefined) {
      await diskGuard.requireBuilt(layout.templateDir(template.templateId), template);
      return bootPlan(template, images, builtDisk(this.#context, template));
    }
    // The disk of a snapshot is a list of files; without the list there is nothing to boot.
    const folder = snapshotFolder(this.#context, template);
    if (folder === undefined)
      throw new NestboxError('snapshot_damaged', `The snapshot ${template.templateId} has lost its files.`);
    // A memory that was taken is what is asked for, and nothing else instead of it; but one of another machine has a disk that boots.
    if (this.#enabled) await this.#check(folder);
    const { disk } = await readManifestFile(machineFiles(folder).manifest);
    await diskGuard.requireIntact(folder, disk);
    const { rootfs } = machineFiles(folder);
    return bootPlan(template, images, { folder, layers: disk.layers, bottomPath: rootfs });
  }

  /** Undefined, with the reason in the log once, when it cannot be used here. */
  async #usable(template: Template, images: CurrentImages): Promise<SavedMachine | undefined> {
    const folder = snapshotFolder(this.#context, template);
    if (folder === undefined) {
      this.#tellOnce(template, 'it has none yet');
      return undefined;
    }
    try {
      const here = await this.#context.driver.snapshotMachine();
      const { machine, ...saved } = await this.#check(folder);
      // What was found is mended.
      if (template.originSandboxId !== undefined) this.noteDamage(template, undefined);
      if (machine !== here) throw incompatible(`the template ${template.templateId}`, machine, here);
      const isBuilt = template.originSandboxId === undefined;
      if (isBuilt && (saved.agentDiskHash !== images.agentDiskHash || saved.kernelVersion !== images.kernelVersion))
        throw new NestboxError(
          'snapshot_incompatible',
          'It was taken with another guest agent or kernel than today’s.',
        );
      return saved;
    } catch (error) {
      // Of one that was taken it is told that it is damaged.
      if (template.originSandboxId === undefined || !isDamage(error))
        this.#tellOnce(template, error instanceof Error ? error.message : String(error));
      return undefined;
    }
  }

  #check(folder: string): Promise<CheckedMachine> {
    const mark = folderMark(folder);
    const known = this.#checked.get(folder);
    if (known?.mark === mark) return known.outcome;
    const checked = { mark, outcome: this.#checkNow(folder) };
    this.#checked.set(folder, checked);
    checked.outcome.catch(() => {
      if (this.#checked.get(folder) === checked) this.#checked.delete(folder);
    });
    return checked.outcome;
  }

  async #checkNow(folder: string): Promise<CheckedMachine> {
    const { imageGuard, diskGuard } = this.#context;
    const [manifest] = await Promise.all([readManifest(folder), imageGuard.requireIntact(folder)]);
    const { machine, disk, hasPages, kernelVersion, agentDiskHash } = manifest;
    await diskGuard.requireIntact(folder, disk);
    return { machine, folder, layers: disk.layers, hasPages, kernelVersion, agentDiskHash };
  }

  #tellOnce({ templateId }: Template, reason: string): void {
    const key = `${templateId} ${reason}`;
    if (this.#told.has(key)) return;
    this.#told.add(key);
    this.#context.logger.warn({ templateId, reason }, 'the snapshot of this template cannot be used; sandboxes boot');
  }

  async #renew(template: Template): Promise<void> {
    const context = this.#context;
    const { driver, layout, logger } = context;
    const signal = this.#stopping;
    const { templateId, vcpuCount, memoryMib, diskMib } = template;
    const trace = new Trace();
    const images = await context.currentImages();
    const identity = settledIdentity(template);
    const { sandboxId } = identity.spec;
    await using undo = new AsyncDisposableStack();
    // The record stays "starting": a host agent that ends meanwhile leaves nothing to be found again.
    const plan = bootPlan(template, images, builtDisk(context, template));
    const vm = await this.#gate.run(
      () => createMachine(context, identity, plan, signal, trace, { recorded: false }),
      signal,
    );
    undo.defer(() => removeFiles(context, sandboxId));
    undo.defer(() => abandonMachine(context, sandboxId, vm));
    const limit = AbortSignal.any([signal, AbortSignal.timeout(WARM_UP_TIMEOUT_MS)]);
    await trace.measure('warm up', () => rehearseGuest(identity, vm.guest, logger, limit));
    await delay(SETTLE_MS, undefined, { signal });

    const folder = join(layout.transitDir, sandboxId);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    undo.defer(() =>
      attempt(context, sandboxId, 'removing a state', () => rm(folder, { recursive: true, force: true })),
    );
    const source = layout.sandboxDir(sandboxId);
    await driver.pause(vm.handle);
    const { devices, pages } = machineFiles(folder);
    const state = { devicesPath: devices, pagesPath: pages };
    await trace.measure('save', () => driver.save(vm.handle, machineFiles(source).memory, state));
    await driver.destroy(vm.handle, { graceful: false });
    const { layers, kernelVersion, agentDiskHash, envdVersion } = vm.machine;
    await allSettled([linkMachine(source, folder), context.disks.link(source, layers, folder)]);
    const machine = await driver.snapshotMachine();
    // Somebody may have replaced the template meanwhile; then this is of no use.
    const { snapshot: _, rootfsPath: __, ...file } = await context.templates.get(templateId);
    if (file.createdAtMs !== template.createdAtMs)
      throw new NestboxError('conflict', `The template ${templateId} was replaced while its snapshot was made.`);
    const saved = { folder, layers, hasPages: true, kernelVersion, agentDiskHash };
    const facts = { machine, kernelVersion, agentDiskHash, envdVersion, vcpuCount, memoryMib, diskMib };
    await trace.measure('store', () => installSnapshot(context, file, saved, facts));
    logger.info({ templateId, tookMs: Math.round(trace.elapsedMs) }, 'a template has a snapshot; creates restore it');
  }
}

async function settledOrAborted(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const { promise: aborted, resolve } = Promise.withResolvers<void>();
  const onAbort = () => resolve();
  signal.addEventListener('abort', onAbort, { once: true });
  await Promise.race([Promise.allSettled([work]), aborted]);
  signal.removeEventListener('abort', onAbort);
  signal.throwIfAborted();
}

/** Who the guest is while it is warmed up. Every restore tells it who it is then. */
function settledIdentity(template: Template): SandboxIdentity {
  const { templateId, vcpuCount, memoryMib, diskMib } = template;
  return {
    spec: {
      sandboxId: newSandboxId(),
      templateId,
      envVars: {},
      accessToken: undefined,
      ...OPEN_EGRESS,
      allowInternetAccess: false,
    },
    templateId,
    vcpuCount,
    memoryMib,
    diskMib,
    guest: guestSettings(template),
    createdAtMs: Date.now(),
  };
}

export function guestSettings({ envVars, defaultUser, defaultWorkdir }: Template): SandboxIdentity['guest'] {
  return { envVars: { ...envVars }, defaultUser, ...(defaultWorkdir === undefined ? {} : { defaultWorkdir }) };
}

function isDamage(error: unknown): error is NestboxError {
  return error instanceof NestboxError && error.code === 'snapshot_damaged';
}

function adviceFor({ originSandboxId }: Template): string {
  return originSandboxId === undefined
    ? 'Make the template again: nestbox setup --force.'
    : 'Put the file back from a copy, or delete the snapshot.';
}

function refusal(error: NestboxError): Promise<never> {
  const refused = Promise.reject(error);
  refused.catch(() => undefined);
  return refused;
}
