/**
 * What the control plane knows of a sandbox. A sandbox that is gone has no row.
 * `starting`: a host was asked for it and has not answered. `running`: ready and reachable. `stopping`: must not run
 * any more; the row stays until its host has said that it is gone.
 */
export type SandboxState = 'starting' | 'running' | 'stopping';

/** The one table of a sandbox's life: from which states one may come to each. Nothing else writes a state. */
export const STATES_BEFORE = {
  running: ['starting'],
  stopping: ['starting', 'running'],
} as const satisfies Record<Exclude<SandboxState, 'starting'>, readonly SandboxState[]>;

export type ReachableState = keyof typeof STATES_BEFORE;
