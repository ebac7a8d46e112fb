import type { Activity } from './activity.ts';
import type { CompilerTuning } from './compiler-tuning.ts';
import type { AgentState } from './state.ts';

/** What the services of the agent share. */
export interface AgentContext {
  readonly state: AgentState;
  readonly activity: Activity;
  /** Undefined: V8 stays as it is. */
  readonly compilers?: CompilerTuning | undefined;
  /** Folder of the files by which programs learn where they run, `/run/e2b` in a guest. */
  readonly runtimeDir: string;
  /** True inside a VM, where the agent is PID 1; false on a developer's machine, whose settings must not change. */
  readonly isInit: boolean;
}
