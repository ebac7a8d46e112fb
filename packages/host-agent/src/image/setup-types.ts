import type { NestboxPaths } from '@nestbox/kit';

/** The steps of a set-up in the order they run. Each is skipped in milliseconds when its result is there. */
export const SETUP_STEPS = {
  packages: 'Debian packages on this machine',
  kernel: 'Guest kernel',
  initrd: 'Initial RAM disk',
  'agent-disk': 'Guest agent disk',
  'base-template': 'Template base',
  snapshots: 'Memory snapshots of templates',
} as const;

export type SetupStep = keyof typeof SETUP_STEPS;

/** One line for the screen. `elapsedMs` counts from the step's start and is absent on `started`. */
export interface SetupProgress {
  readonly step: SetupStep;
  readonly title: string;
  readonly state: 'started' | 'progress' | 'done' | 'skipped' | 'failed';
  /** What is being done, was found or went wrong, in a few words. */
  readonly detail?: string;
  readonly elapsedMs?: number;
}

/** What the guest agent's own package makes of its sources; ends up at the top of the agent disk. */
export interface AgentBundle {
  /** One ES module, placed at /agent/agent.mjs. */
  readonly bundlePath: string;
  /** Packages that cannot be bundled; each `dir` is copied to /agent/node_modules/<name>. */
  readonly nativePackages: readonly { readonly name: string; readonly dir: string }[];
}

export interface SetUpOptions {
  readonly paths: NestboxPaths;
  /** Builds the guest agent into an empty folder. Given by the caller, since this package does not depend on the agent. */
  readonly buildAgentBundle: (outDir: string) => Promise<AgentBundle>;
  /**
   * Files and folders that the bundle is made from. A hash of them tells whether the agent disk is still right,
   * without building the bundle.
   */
  readonly agentSources: readonly string[];
  readonly onProgress: (event: SetupProgress) => void;
  /** Builds everything anew. Sandboxes that run or are paused keep what they were made of. */
  readonly force?: boolean;
  readonly signal?: AbortSignal;
}

/** One thing that `setUp` would have to make. */
export interface MissingPart {
  readonly step: SetupStep;
  /** What is missing, for the user. */
  readonly what: string;
}
