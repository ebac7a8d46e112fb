import { availableParallelism, totalmem } from 'node:os';
import { NestboxError } from '@nestbox/contract';
import { folderUsage } from '../storage/disk-usage.ts';
import type { SandboxInfo } from './sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';

export interface HostLimits {
  /** Sandboxes at once. */
  readonly maxSandboxes: number;
  /** Sum of the guests' memory. */
  readonly maxMemoryMib: number;
  /** From the VMM's start to the guest agent's first answer. */
  readonly bootTimeoutMs: number;
  /** How long a sandbox that a restarted host agent takes over may take to answer it. */
  readonly takeoverTimeoutMs: number;
  /** Boots at once; further creates wait. */
  readonly maxConcurrentBoots: number;
  /** Paused sandboxes and snapshots together. */
  readonly maxSnapshots: number;
  /** What paused sandboxes and snapshots take on the disk, apart from what they share with others. Undefined: no limit. */
  readonly maxSnapshotBytes: number | undefined;
}

export function resolveHostLimits(limits: Partial<HostLimits> = {}): HostLimits {
  return {
    maxSandboxes: limits.maxSandboxes ?? 1000,
    // The rest is for the host itself and for what VMMs need besides the guests' memory.
    maxMemoryMib: limits.maxMemoryMib ?? Math.floor((totalmem() / 2 ** 20) * 0.9),
    // Long enough for emulation (TCG) on a busy machine, where a boot takes ten times what it takes with KVM.
    bootTimeoutMs: limits.bootTimeoutMs ?? 60_000,
    takeoverTimeoutMs: limits.takeoverTimeoutMs ?? 60_000,
    maxConcurrentBoots: limits.maxConcurrentBoots ?? Math.max(2, availableParallelism()),
    maxSnapshots: limits.maxSnapshots ?? 1000,
    maxSnapshotBytes: limits.maxSnapshotBytes,
  };
}

/** What is kept of these, or about to be, is on the disk. */
const KEPT_STATES: ReadonlySet<SandboxInfo['state']> = new Set(['pausing', 'paused', 'resuming']);

/** Throws snapshot_limit when the host keeps as much as it may already. */
export async function requireSnapshotRoom(
  { limits, templates, layout }: Pick<SandboxContext, 'limits' | 'templates' | 'layout'>,
  sandboxes: Iterable<Pick<SandboxInfo, 'sandboxId' | 'state'>>,
): Promise<void> {
  const paused = [...sandboxes].filter(({ state }) => KEPT_STATES.has(state));
  const snapshots = (await templates.list()).templates.filter(({ originSandboxId }) => originSandboxId !== undefined);
  const count = paused.length + snapshots.length;
  const advice = 'Delete some (`nestbox disk` shows their sizes), or raise the limit.';
  if (count >= limits.maxSnapshots)
    throw new NestboxError(
      'snapshot_limit',
      `This host keeps ${count} paused sandboxes and snapshots, the most it may (${limits.maxSnapshots}). ${advice}`,
    );
  if (limits.maxSnapshotBytes === undefined) return;
  const folders = [
    ...paused.map(({ sandboxId }) => layout.sandboxDir(sandboxId)),
    ...snapshots.map(({ templateId }) => layout.templateDir(templateId)),
  ];
  const sizes = await Promise.all(folders.map(folderUsage));
  const bytes = sizes.reduce((sum, { ownBytes }) => sum + ownBytes, 0);
  if (bytes >= limits.maxSnapshotBytes)
    throw new NestboxError(
      'snapshot_limit',
      `Paused sandboxes and snapshots take ${mib(bytes)} MiB on this host, which may keep ${mib(limits.maxSnapshotBytes)} MiB. ${advice}`,
    );
}

function mib(bytes: number): number {
  return Math.round(bytes / 2 ** 20);
}

/** Whether one more sandbox of this size fits beside the present ones. */
export function hasCapacity(...asked: Parameters<typeof requireCapacity>): boolean {
  try {
    requireCapacity(...asked);
    return true;
  } catch {
    return false;
  }
}

/** Throws host_capacity when one more sandbox of this size does not fit beside the present ones. */
export function requireCapacity(
  limits: HostLimits,
  present: Iterable<Pick<SandboxInfo, 'memoryMib' | 'state'>>,
  memoryMib: number,
): void {
  let count = 0;
  let usedMib = 0;
  for (const sandbox of present) {
    if (sandbox.state === 'paused') continue;
    count += 1;
    usedMib += sandbox.memoryMib;
  }
  if (count >= limits.maxSandboxes)
    throw new NestboxError(
      'host_capacity',
      `This host runs ${count} sandboxes, the most it may (${limits.maxSandboxes}). End one, or raise the limit.`,
    );
  if (usedMib + memoryMib > limits.maxMemoryMib)
    throw new NestboxError(
      'host_capacity',
      `The sandbox needs ${memoryMib} MiB of memory; ${Math.max(0, limits.maxMemoryMib - usedMib)} of the ` +
        `${limits.maxMemoryMib} MiB that this host gives to sandboxes are free. End one, or raise the limit.`,
    );
}
