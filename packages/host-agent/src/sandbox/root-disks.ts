import type { DiskSeal } from '../storage/snapshot-manifest.ts';
import type { VmDisk, VmHandle } from '../vmm/driver.ts';
import type { RunningVm } from './lifecycle.ts';

/**
 * How the root disks of a host's sandboxes are kept: as stacks of layers (layered-disks.ts) or as raw disks, each a copy
 * (copied-disks.ts). The VM driver's disk formats decide. Everywhere else a disk is a list of file names in a machine folder, top first.
 */
export interface RootDisks {
  readonly format: VmDisk['format'];

  /**
   * Makes the disk of a VM that starts: what is on it is the source's, and what is written to it is its own. The source stays as it
   * is; it may be in the same folder. Throws host_disk_full, not_set_up, and snapshot_incompatible for a source that the VM manager cannot
   * read. After an error nothing is left.
   */
  derive(source: DiskSource, target: DiskTarget, signal?: AbortSignal): Promise<readonly string[]>;

  /** As the VM gets it. */
  vmDisk(folder: string, layers: readonly string[]): VmDisk;

  /** The files that a VM really has, which its record may be behind of. Throws what the driver throws when the VMM does not say. */
  present(folder: string, vm: Pick<RunningVm, 'handle' | 'machine'>): Promise<readonly string[]>;

  /**
   * Gets ready to copy the disk of a VM that runs into another folder. `undo` gets what takes away from the VM's own folder again
   * what was made there; what is in the other one goes with it. Throws host_disk_full.
   */
  prepareCopy(
    vm: Pick<RunningVm, 'handle' | 'machine'>,
    copy: CopyTarget,
    undo: AsyncDisposableStack,
  ): Promise<DiskCopy>;

  /** Of a disk that nobody writes to. It is on the host's disk when the VMM has synced it (layers), or on return. */
  seal(folder: string, layers: readonly string[]): Promise<DiskSeal>;

  /** Gives another folder a disk that nobody writes to any more. */
  link(folder: string, layers: readonly string[], target: string): Promise<void>;

  /** The raw disk that what is booted of this one, as a template, has at the bottom. */
  bottomPath(folder: string, layers: readonly string[]): string;

  /** Undefined: a disk never has more than one file. */
  readonly stacks: DiskStacks | undefined;
}

/** A disk that nobody writes to. */
export interface DiskSource {
  readonly folder: string;
  /** Empty: the raw disk at the bottom alone. */
  readonly layers: readonly string[];
  readonly bottomPath: string;
  /** Nobody else makes anything of it, and it is about to go: it may be taken as it is. */
  readonly isSpare?: boolean;
}

export interface DiskTarget {
  readonly folder: string;
  readonly diskMib: number;
}

export interface CopyTarget extends DiskTarget {
  /** Of the VM. */
  readonly ownFolder: string;
}

/** The copy of a disk at one moment. */
export interface DiskCopy {
  /** What the copy consists of when it has been taken. */
  readonly layers: readonly string[];
  /** What the VM's own disk consists of then. */
  readonly own: readonly string[];
  /** Of the VM while it is paused. When it throws, the VM has the disk that it had. */
  take(): Promise<void>;
}

/** Keeps stacks short. Both give up when the signal aborts, and the stack is right as it was then. */
export interface DiskStacks {
  /** Of a disk that nobody uses. Answers what is left, top first: the same list when there was nothing to do. */
  shorten(
    folder: string,
    layers: readonly string[],
    maxLayers: number,
    signal: AbortSignal,
  ): Promise<readonly string[]>;
  /** Of a VM that runs: pulls everything but the bottom into the top. */
  flatten(folder: string, handle: VmHandle, signal: AbortSignal): Promise<void>;
}
