import { NestboxError } from '@nestbox/contract';
import { folderUsage } from '../storage/disk-usage.ts';
import type { SandboxInfo } from './sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';

/** What is kept of these, or about to be, is on the disk. */
const KEPT_STATES: ReadonlySet<SandboxInfo['state']> = new Set(['pausing', 'paused', 'resuming']);

type Rooms = Pick<SandboxContext, 'limits' | 'templates' | 'layout'>;
type Present = () => Iterable<Pick<SandboxInfo, 'sandboxId' | 'state'>>;

/**
 * How many paused sandboxes and snapshots this host may keep, and how many bytes of them. Room is reserved before anything is
 * written, so that of several at once only as many as fit get it.
 */
export class SnapshotRoom {
  readonly #context: Rooms;
  readonly #present: Present;
  /** Ids of the sandboxes and templates that are about to be kept. */
  readonly #reserved = new Set<string>();
  /** Where bytes are limited one follows the other: how large a state becomes is known when it has been written. */
  #turn: Promise<void> = Promise.resolve();

  constructor(context: Rooms, present: Present) {
    this.#context = context;
    this.#present = present;
  }

  /**
   * Room for the state of this sandbox or template, until it is disposed of: by then it is there, or will not be. Throws
   * snapshot_limit when the host keeps as much as it may already.
   */
  async reserve(id: string): Promise<Disposable> {
    using endTurn = new DisposableStack();
    if (this.#context.limits.maxSnapshotBytes !== undefined) {
      const before = this.#turn;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#turn = promise;
      endTurn.defer(resolve);
      await before;
    }
    // One that is there by the time of the check may have been on its way when the templates were listed.
    const before = new Set(this.#reserved);
    const { templates } = await this.#context.templates.list();
    const snapshots = templates.filter(({ originSandboxId }) => originSandboxId !== undefined);
    const paused = [...this.#present()].filter(({ state }) => KEPT_STATES.has(state));
    const kept = new Set([
      ...before,
      ...this.#reserved,
      ...paused.map(({ sandboxId }) => sandboxId),
      ...snapshots.map(({ templateId }) => templateId),
    ]);
    kept.delete(id);
    requireCount(this.#context.limits.maxSnapshots, kept.size);
    this.#reserved.add(id);
    endTurn.defer(() => this.#reserved.delete(id));
    await this.#requireBytes(
      paused.map(({ sandboxId }) => sandboxId),
      snapshots.map(({ templateId }) => templateId),
    );
    return endTurn.move();
  }

  async #requireBytes(sandboxIds: readonly string[], templateIds: readonly string[]): Promise<void> {
    const { limits, layout } = this.#context;
    if (limits.maxSnapshotBytes === undefined) return;
    const folders = [...sandboxIds.map(layout.sandboxDir), ...templateIds.map(layout.templateDir)];
    const sizes = await Promise.all(folders.map(folderUsage));
    const bytes = sizes.reduce((sum, { ownBytes }) => sum + ownBytes, 0);
    if (bytes >= limits.maxSnapshotBytes)
      throw new NestboxError(
        'snapshot_limit',
        `Paused sandboxes and snapshots take ${mib(bytes)} MiB on this host, which may keep ${mib(limits.maxSnapshotBytes)} MiB. ${ADVICE}`,
      );
  }
}

const ADVICE =
  'Delete some (`nestbox disk` shows their sizes), or raise the limit (`nestbox up --max-snapshots`, `--max-snapshot-gib`).';

function requireCount(maxSnapshots: number, count: number): void {
  if (count >= maxSnapshots)
    throw new NestboxError(
      'snapshot_limit',
      `This host keeps ${count} paused sandboxes and snapshots, the most it may (${maxSnapshots}). ${ADVICE}`,
    );
}

function mib(bytes: number): number {
  return Math.round(bytes / 2 ** 20);
}
