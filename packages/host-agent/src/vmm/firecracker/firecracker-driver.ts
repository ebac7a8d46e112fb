import { readFileSync } from 'node:fs';
import { type ApiDeadlines, DEFAULT_API_DEADLINES } from '../api/deadlines.ts';
import type { CgroupTree, VmCgroup } from '../cgroup/cgroup.ts';
import type { VmDriver, VmHandle, VmMachine, VmmDescription, VmSpec, VmState } from '../driver.ts';
import { KvmHost, type KvmHostOptions } from '../process/kvm-host.ts';
import { createProcessDriver, openCgroupsOnce, type ProcessDriverOptions } from '../process/process-driver.ts';
import type { ProcessVmm } from '../process/process-vmm.ts';
import { hostProcessor } from '../qemu/save-state.ts';
import { bootOnce } from './boot.ts';
import { checkKernel, checkMachine } from './check-machine.ts';
import { findJailer } from './find-jailer.ts';
import { FirecrackerVm } from './firecracker-vm.ts';
import type { FirecrackerHost } from './launch-firecracker.ts';
import { FIRECRACKER } from './program.ts';
import { restoreVm } from './restore.ts';
import { firecrackerRunFiles, removeRunFiles, runDirOfCommandLine } from './run-files.ts';
import { MACHINE_REVISION, saveState } from './save-state.ts';
import type { FirecrackerVersion } from './version.ts';

/** `program`: default firecracker. */
export interface FirecrackerDriverOptions extends ProcessDriverOptions, KvmHostOptions {
  /** NestboxPaths.instance. */
  readonly instance: string;
  readonly deadlines?: ApiDeadlines;
  /** A name in PATH, or a path. Default: one beside Firecracker or in PATH; without any, bubblewrap makes the jail. */
  readonly jailer?: string;
}

/** Runs VMs on Firecracker, which needs KVM. */
export function createFirecrackerDriver(options: FirecrackerDriverOptions): VmDriver {
  const cgroups = openCgroupsOnce(options.instance);
  return createProcessDriver(new Firecracker(options, cgroups), cgroups, options);
}

class Firecracker implements ProcessVmm<FirecrackerVm> {
  readonly name = 'firecracker';
  readonly features = {
    pause: true,
    snapshot: true,
    // As with QEMU: everything of the guest goes on where it was.
    needsSnapshotPrepare: false,
    // A restored VM maps the whole image, so its next state is complete without.
    needsMemoryPreload: false,
    diskFormats: ['raw'],
  } as const;
  /**
   * Firecracker has no handler for SIGTERM, which would end it in the same way elsewhere, and is ignored by the first process
   * of a pid namespace. What the guest has flushed is on the host's disk.
   */
  readonly stopGraceMs = 0;
  readonly runDirOfCommandLine = runDirOfCommandLine;
  readonly removeRunFiles = removeRunFiles;
  readonly save = saveState;
  readonly #host: KvmHost<FirecrackerVersion>;
  readonly #cgroups: () => Promise<CgroupTree>;
  readonly #deadlines: ApiDeadlines;
  readonly #namedJailer: string | undefined;

  constructor(options: FirecrackerDriverOptions, cgroups: () => Promise<CgroupTree>) {
    this.#host = new KvmHost(FIRECRACKER, options);
    this.#cgroups = cgroups;
    this.#deadlines = options.deadlines ?? DEFAULT_API_DEADLINES;
    this.#namedJailer = options.jailer;
  }

  async describe(): Promise<VmmDescription> {
    const described = await this.#host.describe('firecracker');
    const jailer = await this.#findJailer();
    const jail = jailer === undefined ? 'bubblewrap makes its jail' : `its jail is made by ${jailer}`;
    return { ...described, reason: `${described.reason} With it ${jail}.` };
  }

  async snapshotMachine(): Promise<string> {
    const { version } = await this.#host.ask();
    const processor = hostProcessor(readFileSync('/proc/cpuinfo', 'utf8'));
    return `firecracker ${version.text}, machine ${MACHINE_REVISION}, kvm, cpu of ${processor}`;
  }

  async checkBoot(spec: VmSpec): Promise<void> {
    await checkMachine(spec, [spec.kernelPath, spec.initrdPath]);
    await checkKernel(spec);
  }

  async bootOnce(spec: VmSpec, limitMs: number, signal?: AbortSignal): Promise<FirecrackerVm | undefined> {
    return bootOnce(await this.#require(), spec, limitMs, signal);
  }

  async restore(machine: VmMachine, state: VmState, signal?: AbortSignal): Promise<FirecrackerVm> {
    return restoreVm({ ...(await this.#require()), machine, state }, signal);
  }

  adopt(handle: VmHandle, cgroup: VmCgroup | undefined): FirecrackerVm {
    return new FirecrackerVm({ handle, cgroup, exited: undefined }, this.#deadlines.callMs);
  }

  logsOf(runDir: string): readonly string[] {
    const { console, log, metrics } = firecrackerRunFiles(runDir);
    return [console, log, metrics];
  }

  /** Asked each time, since one may be installed at any moment. */
  async #findJailer(): Promise<string | undefined> {
    const [{ command }, { version }] = await Promise.all([this.#host.program(), this.#host.ask()]);
    return findJailer(command[0], version.text, this.#namedJailer);
  }

  /** Throws not_set_up when no VM can run here. */
  async #require(): Promise<FirecrackerHost> {
    const [{ program }, cgroups] = await Promise.all([this.#host.require(), this.#cgroups()]);
    const jailer = await this.#findJailer();
    return { program, jailer, cgroups, kvmDevice: this.#host.kvmDevice, deadlines: this.#deadlines };
  }
}
