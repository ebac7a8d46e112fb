import type { ProcessIdentity } from '@nestbox/kit';

/**
 * What the sandbox manager knows of a VM manager. Callers ask the feature flags, never the driver's name.
 * The conformance suite (conformance.ts) says what each method must do; every driver runs it.
 */
export interface VmDriver {
  readonly name: VmmName;
  readonly features: VmFeatures;

  /** What runs VMs here and why. Probes once and remembers the answer. */
  describe(signal?: AbortSignal): Promise<VmmDescription>;

  /**
   * Starts the VMM and the guest's kernel; returns when the guest has shown its first sign of life on the console
   * (not when its agent is ready). The VMM is no child in spirit: it has its own session, writes to files, and outlives us.
   * On any failure, an abort included, nothing is left: no process, socket, cgroup.
   * Throws NestboxError: not_set_up (VMM, kernel or disk missing), boot_timeout (no sign of life, after retries),
   * vm_died (the VMM exited; its own words are in the message), host_disk_full, deadline_exceeded (aborted; an abort
   * whose reason is a NestboxError throws that one).
   */
  start(spec: VmSpec, signal?: AbortSignal): Promise<VmHandle>;

  /**
   * What the kernel and the VMM say now. Works on a handle that another process of ours wrote down. A handle that does not
   * describe a VM of this installation is `gone`. Throws sandbox_unreachable when the VMM lives but does not answer.
   */
  status(handle: VmHandle): Promise<VmStatus>;

  /**
   * Stops the vCPUs; memory and devices stay. On return all that the guest has written stands in its disks' files (which nobody
   * needs to have synced), and these do not change until `resume`. Pausing a paused VM is fine. Throws vm_died when it is gone.
   */
  pause(handle: VmHandle, signal?: AbortSignal): Promise<void>;

  /** Lets the vCPUs go on, also after a stall. Resuming a running VM is fine. Throws vm_died when it is gone. */
  resume(handle: VmHandle, signal?: AbortSignal): Promise<void>;

  /**
   * Starts a VMM with a state that `save` has written, on the same memory image and on disks with the same content. Its
   * vCPUs stand still until `resume`. On any failure nothing is left. Throws as `start` does, and snapshot_damaged when the
   * state cannot be loaded.
   */
  restore(machine: VmMachine, state: VmState, signal?: AbortSignal): Promise<VmHandle>;

  /**
   * What a saved state depends on besides the machine's own description: VMM, version, accelerator, processor. A state can
   * be restored where these words are the same.
   */
  snapshotMachine(): Promise<string>;

  /**
   * Of a paused VM: writes its devices' state and the pages in which its memory differs from the machine's image into new
   * files, which the caller syncs. The VM stays paused and can go on. Throws vm_died, host_disk_full.
   */
  save(handle: VmHandle, memoryPath: string, state: VmState, signal?: AbortSignal): Promise<SavedState>;

  /**
   * SIGTERM, grace, SIGKILL; then sockets and cgroup go. Destroying what is gone is fine. Never throws for a dead VM.
   * `graceful: false` kills at once, so that not a byte of its disks changes any more.
   */
  destroy(handle: VmHandle, options?: { readonly graceful: boolean }): Promise<void>;

  /**
   * Calls the listener once when the VMM process is gone, also for a VM that another process of ours started.
   * The reason is in plain words. The listener is not called after the returned undo.
   */
  onExit(handle: VmHandle, listener: (reason: string) => void): () => void;

  /**
   * Ends VMMs of this installation (by runDir and command line) that no handle of the list names:
   * what a crash between "process started" and "handle written down" leaves. Returns the pids ended.
   */
  removeStrays(known: readonly VmHandle[]): Promise<number[]>;

  /** Boots that the watchdog killed and began again since this driver was made. */
  readonly bootRetries: number;

  /** Lets go of every VM without ending it: no listener is called any more, control connections are closed. */
  close(): Promise<void>;
}

/** What a driver can do besides whose VMs may be on layers (`qcow2` in `features.diskFormats`), while a VM is there. */
export interface LayeringVmDriver extends VmDriver {
  /**
   * From now on the paused guest writes to another qcow2 file, made by the caller in the same folder with the present one below
   * it; nobody can write to the present one any more.
   */
  switchDisk(handle: VmHandle, newPath: string, signal?: AbortSignal): Promise<void>;

  /** The path of the file that the guest's root disk is written to, as the VMM was told it. */
  rootDiskPath(handle: VmHandle): Promise<string>;

  /**
   * Pulls what lies between the root disk's file and the lowest one (`basePath`, raw) into the former while the guest goes on,
   * so that the files in between are not needed any more. Resolves when that is done.
   */
  flattenDisk(handle: VmHandle, basePath: string, signal?: AbortSignal): Promise<void>;
}

/** Every driver reads raw disks; one that takes layers gets them. */
export function takesLayers(driver: VmDriver): driver is LayeringVmDriver {
  return driver.features.diskFormats.includes('qcow2');
}

/**
 * The line by which the guest shows that its kernel runs and its initrd has begun, written to the serial console first
 * thing. Firmware and a panicking kernel write there too, so "any output" would be no sign of life.
 */
export const BOOT_SIGN_OF_LIFE = 'nestbox: initrd';

export type VmmName = 'qemu' | 'firecracker' | 'cloud-hypervisor' | 'fake';

export interface VmFeatures {
  /** vCPUs can be stopped and go on. */
  readonly pause: boolean;
  /** Memory and device state can be written and restored: `restore`, `save`. */
  readonly snapshot: boolean;
  /** The guest must get ready before a snapshot (its /snapshot/prepare). */
  readonly needsSnapshotPrepare: boolean;
  /** A restored VM must load all its memory before the next snapshot (guest's /memory/preload). */
  readonly needsMemoryPreload: boolean;
  /** Disks it can read; `raw` always. One with `qcow2` is a `LayeringVmDriver`. */
  readonly diskFormats: readonly VmDisk['format'][];
}

export interface VmmDescription {
  readonly vmm: VmmName;
  readonly version: string;
  readonly accelerator: 'kvm' | 'tcg' | 'none';
  /** Plain words, shown by `nestbox doctor` and `GET /nodes`: why this VM manager and this accelerator. */
  readonly reason: string;
}

/** What a VM consists of, however it starts. */
export interface VmMachine {
  /** Names the VM in the kernel and in logs; mostly its sandbox's id. */
  readonly vmId: string;
  readonly vcpuCount: number;
  readonly memoryMib: number;
  /** The unprivileged user that the VMM runs as, like no other VMM of this machine; also the owner of the TAP. */
  readonly userId: number;
  /** Memory image of that size, mapped privately: never written to, and the same for as long as a VM is on it. */
  readonly memoryPath: string;
  /** In guest order: the first is /dev/vda (root), the second /dev/vdb (agent disk). */
  readonly disks: readonly VmDisk[];
  readonly network: VmNetwork;
  /** Folder for sockets and pid, made by the caller, below NestboxPaths.runDir. */
  readonly runDir: string;
  /** The guest's serial console is appended here. */
  readonly consolePath: string;
}

/** A VM that boots. */
export interface VmSpec extends VmMachine {
  readonly kernelPath: string;
  readonly initrdPath: string;
  /** Words appended to the driver's own kernel command line. */
  readonly kernelArgs: readonly string[];
}

/** Files of a saved state; their formats are the driver's own. */
export interface VmState {
  readonly devicesPath: string;
  /** Pages on top of the memory image. Undefined at a restore: the image has them all. */
  readonly pagesPath: string | undefined;
}

export interface SavedState {
  /** Pages in which the memory differs from the image. */
  readonly changedPages: number;
}

export interface VmDisk {
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
  readonly readOnly: boolean;
  /** Files below it that are read through it. None of them is written to. Default: none. */
  readonly below?: readonly string[];
}

export interface VmNetwork {
  /** Name under /run/netns; the VMM runs in there. Undefined: the VMM gets no network device (tests of drivers alone). */
  readonly netnsName: string | undefined;
  readonly tapName: string;
  readonly guestMac: string;
}

/** All that a restarted host agent needs to find the VM again. JSON; kept in the sandbox's record. */
export interface VmHandle {
  /** Of the machine. */
  readonly vmId: string;
  readonly vmm: VmmName;
  readonly process: ProcessIdentity;
  readonly runDir: string;
  /** cgroup of the VMM below each controller's mount (v1) or the unified one (v2); undefined when cgroups cannot be used. */
  readonly cgroup: string | undefined;
}

/** `gone` says why when that can be known (the VMM's last words). `stalled`: the VMM stopped the guest, e.g. host disk full. */
export type VmStatus =
  | { readonly state: 'running' }
  | { readonly state: 'paused' }
  | { readonly state: 'stalled'; readonly reason: string }
  | { readonly state: 'gone'; readonly reason: string };
