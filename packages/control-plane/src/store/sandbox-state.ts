/**
 * What the control plane knows of a sandbox. A sandbox that is gone has no row.
 * `starting`: a host was asked for it and has not answered. `running`: ready and reachable. `pausing`: its host was asked
 * to put it on disk. `paused`: on its host's disk, without a VM. `resuming`: its host was asked to let it run again.
 * `stopping`: must not run any more; the row stays until its host has said that it is gone.
 */
export type SandboxState = 'starting' | 'running' | 'pausing' | 'paused' | 'resuming' | 'stopping';

/**
 * The one table of a sandbox's life: from which states one may come to each. Nothing else writes a state.
 * `running` and `paused` may follow each other directly: the host knows better, and a row is brought to what it says.
 */
export const STATES_BEFORE = {
  running: ['starting', 'pausing', 'paused', 'resuming'],
  pausing: ['running'],
  paused: ['running', 'pausing', 'resuming'],
  resuming: ['paused'],
  stopping: ['starting', 'running', 'pausing', 'paused', 'resuming'],
} as const satisfies Record<Exclude<SandboxState, 'starting'>, readonly SandboxState[]>;

/** The two states that clients know. Until a pause has succeeded a sandbox runs, until a resume has it is paused. */
export const STATES_SHOWN_AS = {
  running: ['running', 'pausing'],
  paused: ['paused', 'resuming'],
} as const satisfies Record<string, readonly SandboxState[]>;

export type ShownState = keyof typeof STATES_SHOWN_AS;

/** Undefined: clients do not see it, it is a sandbox that is not there. */
export function shownState(state: SandboxState): ShownState | undefined {
  switch (state) {
    case 'running':
    case 'pausing':
      return 'running';
    case 'paused':
    case 'resuming':
      return 'paused';
    case 'starting':
    case 'stopping':
      return undefined;
  }
}

/** The states in which a sandbox takes memory and processors, or is about to, because somebody wants it. */
export const ACTIVE_STATES: readonly SandboxState[] = ['starting', 'running', 'pausing', 'resuming'];
