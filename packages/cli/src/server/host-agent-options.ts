import type { HostAgentConfig } from '@nestbox/host-agent';
import type { WarmOrder } from '@nestbox/host-agent/warm-order';

/** What of the host agent the command line decides. */
export type HostAgentOptions = Pick<
  HostAgentConfig,
  'vmm' | 'limits' | 'warm' | 'useSnapshots' | 'scrub' | 'allowPrivate'
>;

/** The words of `nestbox up` that are the host agent's business. What is missing is left to its own defaults. */
export interface HostAgentWords {
  readonly vmm: string;
  readonly warm?: readonly WarmOrder[];
  readonly maxSnapshots?: number;
  readonly maxSnapshotGib?: number;
  readonly scrubHours?: number;
  readonly snapshots: boolean;
  readonly allowPrivate?: readonly string[];
}

export function hostAgentOptions(words: HostAgentWords): HostAgentOptions {
  return {
    vmm: words.vmm,
    useSnapshots: words.snapshots,
    limits: {
      ...(words.maxSnapshots === undefined ? {} : { maxSnapshots: words.maxSnapshots }),
      ...(words.maxSnapshotGib === undefined ? {} : { maxSnapshotBytes: Math.round(words.maxSnapshotGib * 2 ** 30) }),
    },
    ...(words.scrubHours === undefined ? {} : { scrub: { intervalMs: Math.round(words.scrubHours * 3_600_000) } }),
    ...(words.allowPrivate === undefined ? {} : { allowPrivate: words.allowPrivate }),
    ...(words.warm === undefined ? {} : { warm: words.warm }),
  };
}
