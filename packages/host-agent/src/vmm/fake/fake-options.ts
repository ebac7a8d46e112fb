import type { NestboxError } from '@nestbox/contract';
import type { Logger } from '@nestbox/kit';
import type { BootWatchdog } from '../boot-watchdog.ts';
import type { VmFeatures, VmMachine } from '../driver.ts';

export interface FakeDriverOptions {
  readonly runRoot: string;
  readonly logger: Logger;
  /**
   * What runs as the VM, with its output in the console log. Default: a process that sleeps.
   * Its environment is PATH, HOME and what is given here.
   */
  readonly command?: (machine: VmMachine) => FakeVmCommand;
  /** What that process has on its console once it is where it was saved: a restore waits for it. Default: for nothing. */
  readonly restoredSign?: string;
  /** In place of what the driver says of itself otherwise. */
  readonly features?: Partial<VmFeatures>;
  readonly bootWatchdog?: BootWatchdog;
  readonly stopGraceMs?: number;
  /** Read at each call, so a test may change them as it goes. */
  readonly failures?: FakeFailures;
}

export interface FakeVmCommand {
  readonly command: readonly [string, ...string[]];
  readonly env?: Readonly<Record<string, string>>;
}

/** Things that go wrong on purpose. */
export interface FakeFailures {
  /** `start` fails before anything is begun. */
  startError?: NestboxError;
  /** So many boots show no sign of life. Counts down. */
  silentBoots?: number;
  /** The VMM ends during the boot, with exit code 1. */
  diesDuringBoot?: boolean;
  /** The VM is killed so long after `start` has returned. */
  diesAfterMs?: number;
  /** The VM does not heed SIGTERM, so that `destroy` has to wait out the grace. */
  ignoresSigterm?: boolean;
  /** `destroy` waits for this first. */
  destroyGate?: Promise<void>;
  /** `pause` and `resume` fail. */
  runStateError?: NestboxError;
  /** `resume` alone fails. */
  resumeError?: NestboxError;
  /** `resume` waits for this first. */
  resumeGate?: Promise<void>;
  /** `status` gets no answer. */
  statusError?: NestboxError;
  /** `status` says that the guest stands still, and why. */
  stall?: string;
  /** `restore` fails before anything is begun. */
  restoreError?: NestboxError;
  /** `save` fails; the VM stays as it is. */
  saveError?: NestboxError;
  /** `save` waits for this first. */
  saveGate?: Promise<void>;
  /** How many pages `save` finds changed. Default 1. */
  changedPages?: number;
  /** `save` says that all went well, and the pages are not whole. */
  cutsPages?: boolean;
  /** `switchDisk` fails and has done nothing. */
  switchDiskError?: NestboxError;
  /** `switchDisk` fails and has been carried out all the same. */
  switchDiskUnheard?: NestboxError;
  /** `flattenDisk` waits for this first; when it rejects, the disk stays as it is. */
  flattenGate?: Promise<void>;
  /** `flattenDisk` hears too late that it is given up. */
  flattenIsNearlyDone?: boolean;
  /** What `snapshotMachine` says. */
  machine?: string;
}
