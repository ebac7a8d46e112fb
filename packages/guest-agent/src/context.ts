import type { Activity } from './activity.ts';
import type { AgentState } from './state.ts';

/** What the services of the agent share. */
export interface AgentContext {
  readonly state: AgentState;
  readonly activity: Activity;
  /** Folder of the files by which programs learn where they run, `/run/e2b` in a guest. */
  readonly runtimeDir: string;
  /** True inside a VM, where the agent is PID 1; false on a developer's machine, whose settings must not change. */
  readonly isInit: boolean;
}
