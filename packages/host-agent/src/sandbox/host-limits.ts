import { availableParallelism, totalmem } from 'node:os';
import { NestboxError } from '@nestbox/contract';
import type { SandboxInfo } from './sandbox.ts';

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
