import type { VmCgroup } from '../cgroup/cgroup.ts';
import type {
  SavedState,
  VmFeatures,
  VmHandle,
  VmMachine,
  VmmDescription,
  VmmName,
  VmSpec,
  VmState,
  VmStatus,
} from '../driver.ts';
import type { StrayHunt } from '../strays.ts';

/**
 * All that is a VM manager's own, of one that is a process for each VM. `createProcessDriver` makes a driver of it: the table of VMs,
 * adoption, boots that begin again, notices of ends, strays and the clearing away are the same for all.
 */
export interface ProcessVmm<Vm extends ProcessVm> extends Pick<StrayHunt, 'runDirOfCommandLine' | 'removeRunFiles'> {
  readonly name: VmmName;
  readonly features: VmFeatures;
  /** Between SIGTERM and SIGKILL. 0 for one that does not handle SIGTERM. */
  readonly stopGraceMs: number;

  /** Remembers what it has asked; a failure is not remembered, since a user may mend it at any moment. */
  describe(): Promise<VmmDescription>;
  snapshotMachine(): Promise<string>;

  /** Throws NestboxError for what cannot boot, before anything is begun. */
  checkBoot(spec: VmSpec): Promise<void>;
  /**
   * One boot. Undefined when the guest showed no sign of life within `limitMs`. Then, and after any error, nothing is left of it.
   * Throws NestboxError, the signal's reason, or what the system threw.
   */
  bootOnce(spec: VmSpec, limitMs: number, signal?: AbortSignal): Promise<Vm | undefined>;
  /** A VM with a saved state that stands still. After any error nothing is left. Throws as `bootOnce` does, and snapshot_damaged. */
  restore(machine: VmMachine, state: VmState, signal?: AbortSignal): Promise<Vm>;

  save(vm: Vm, memoryPath: string, state: VmState, signal?: AbortSignal): Promise<SavedState>;
  /** A VM that another process of ours started: it is alive, or only to be asked why it is gone. */
  adopt(handle: VmHandle, cgroup: VmCgroup | undefined): Vm;
  /** Logs in the run folder, links included, that are cut when they grow too long. */
  logsOf(runDir: string): readonly string[];
}

/** One whose VMs may be on layers: see LayeringVmDriver. */
export interface LayeringVmm<Vm extends ProcessVm> extends ProcessVmm<Vm> {
  switchDisk(vm: Vm, newPath: string, signal?: AbortSignal): Promise<void>;
  rootDiskPath(vm: Vm): Promise<string>;
  flattenDisk(vm: Vm, basePath: string, signal?: AbortSignal): Promise<void>;
}

/** What a driver holds of one VM. */
export interface ProcessVm {
  readonly handle: VmHandle;
  /** Started by this process, so its driver knows it even when nobody has written its handle down yet. */
  readonly isOwn: boolean;
  readonly isAlive: boolean;
  queryStatus(): Promise<VmStatus>;
  setRunning(running: boolean, signal?: AbortSignal): Promise<void>;
  /** Resolves with the reason when the VM is gone. Rejects when the signal aborts. */
  waitUntilGone(signal: AbortSignal): Promise<string>;
  /** Why it is gone, as far as is known; remembered, since the cgroup and the log go with the VM. */
  explainEnd(): Promise<string>;
  /** What a failed call means: NestboxError (vm_died, sandbox_unreachable, …), or the error itself when it was no call. */
  explainFailure(error: unknown): Promise<unknown>;
  /** Lets go of the VM, which goes on. */
  close(): Promise<void>;
}
