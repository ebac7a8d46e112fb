import { setTimeout as delay } from 'node:timers/promises';
import { machineFiles } from '../storage/machine-folder.ts';
import { readManifestFile } from '../storage/snapshot-manifest.ts';
import type { Template } from '../storage/template-store.ts';
import { backgroundPace } from './background-pace.ts';
import { snapshotFolder } from './create-plan.ts';
import type { HostState } from './host-state.ts';
import { type BackgroundOptions, builtTemplateDisk, sealedDisk } from './resting-disk.ts';
import { isTemplateThere } from './template-presence.ts';

/** What noting may take of the time. */
const NOTING_PART = 0.25;

/** Notes what the disks contain that rest on this host, a while after a start or a snapshot. */
export class DiskNoter {
  readonly #host: HostState;
  readonly #afterMs: number;
  readonly #closed = new AbortController();
  #noting: Promise<void> | undefined;

  constructor(host: HostState, afterMs: number) {
    this.#host = host;
    this.#afterMs = afterMs;
    this.noteSoon();
  }

  /** What rests here and is not noted yet is noted in a while. */
  noteSoon(): void {
    const { signal } = this.#closed;
    if (signal.aborted) return;
    this.#noting ??= delay(this.#afterMs, undefined, { signal, ref: false })
      .then(() => {
        // What comes from now on is for another time.
        this.#noting = undefined;
        return this.#noteAll();
      })
      .catch((error: unknown) => this.#warn(error, 'what disks contain could not be noted'));
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await this.#noting;
  }

  async #noteAll(): Promise<void> {
    const { table, context, tidier } = this.#host;
    const { diskNotes, layout } = context;
    const { signal } = this.#closed;
    for (const sandbox of [...table.values()])
      await tidier.whilePaused(sandbox, signal, (paused, ending) =>
        diskNotes.note(sealedDisk(layout.sandboxDir(sandbox.id), paused.disk), this.#options(ending)),
      );
    for (const template of (await context.templates.list()).templates) {
      const options = this.#options(signal);
      try {
        await this.#noteTemplate(template, options);
      } catch (error) {
        if (await isTemplateThere(this.#host, template))
          this.#warn(error, 'what a template contains could not be noted');
      }
    }
  }

  async #noteTemplate(template: Template, options: BackgroundOptions): Promise<void> {
    const { context, snapshots } = this.#host;
    const { diskGuard, diskNotes, layout } = context;
    const folder = snapshotFolder(context, template);
    const built = builtTemplateDisk(layout.templateDir(template.templateId), template);
    const disks = template.originSandboxId === undefined ? [built] : [];
    if (folder !== undefined)
      disks.push(sealedDisk(folder, (await readManifestFile(machineFiles(folder).manifest)).disk));
    for (const disk of disks) await diskNotes.note(disk, options);
    // What an earlier server has found.
    const damage = disks[0] && (await diskGuard.knownDamage(disks[0]));
    if (damage !== undefined) snapshots.noteDamage(template, damage);
  }

  #options(signal: AbortSignal): BackgroundOptions {
    return { signal, pace: backgroundPace(this.#host.gate, NOTING_PART, signal) };
  }

  #warn(error: unknown, what: string): void {
    if (!this.#closed.signal.aborted) this.#host.context.logger.warn({ err: error }, what);
  }
}
