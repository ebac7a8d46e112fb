import { readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { type ApiDeadlines, DEFAULT_API_DEADLINES } from '../api/deadlines.ts';
import type { CgroupTree, VmCgroup } from '../cgroup/cgroup.ts';
import type {
  SavedState,
  VmDriver,
  VmFeatures,
  VmHandle,
  VmMachine,
  VmmDescription,
  VmSpec,
  VmState,
} from '../driver.ts';
import { KvmHost, type KvmHostOptions } from '../process/kvm-host.ts';
import { createProcessDriver, openCgroupsOnce, type ProcessDriverOptions } from '../process/process-driver.ts';
import type { ProcessVmm } from '../process/process-vmm.ts';
import { hostProcessor } from '../qemu/save-state.ts';
import { bootOnce } from './boot.ts';
import { checkKernel, checkMachine } from './check-machine.ts';
import type { MemoryRestore } from './cloud-hypervisor-calls.ts';
import { CloudHypervisorVm } from './cloud-hypervisor-vm.ts';
import type { CloudHypervisorHost } from './launch-cloud-hypervisor.ts';
import { CLOUD_HYPERVISOR } from './program.ts';
import { restoreVm } from './restore.ts';
import { cloudHypervisorRunFiles, removeRunFiles, runDirOfCommandLine } from './run-files.ts';
import { MACHINE_REVISION, saveState } from './save-state.ts';
import type { CloudHypervisorVersion } from './version.ts';

/** `program`: default cloud-hypervisor. */
export interface CloudHypervisorDriverOptions extends ProcessDriverOptions, KvmHostOptions {
  /** NestboxPaths.instance. */
  readonly instance: string;
  readonly deadlines?: ApiDeadlines;
  /** Default `eager`. `on-demand` needs version 52, and a device /dev/userfaultfd that its group may open. */
  readonly memoryRestore?: MemoryRestore;
  /** Default: /dev/userfaultfd. */
  readonly faultDevice?: string;
}

const FAULT_DEVICE = '/dev/userfaultfd';
const STOP_GRACE_MS = 5000;

/** Runs VMs on Cloud Hypervisor, which needs KVM. */
export function createCloudHypervisorDriver(options: CloudHypervisorDriverOptions): VmDriver {
  const cgroups = openCgroupsOnce(options.instance);
  return createProcessDriver(new CloudHypervisor(options, cgroups), cgroups, options);
}

class CloudHypervisor implements ProcessVmm<CloudHypervisorVm> {
  readonly name = 'cloud-hypervisor';
  readonly features: VmFeatures;
  readonly stopGraceMs = STOP_GRACE_MS;
  readonly runDirOfCommandLine = runDirOfCommandLine;
  readonly removeRunFiles = removeRunFiles;
  readonly #host: KvmHost<CloudHypervisorVersion>;
  readonly #cgroups: () => Promise<CgroupTree>;
  readonly #deadlines: ApiDeadlines;
  readonly #memoryRestore: MemoryRestore;
  readonly #faultDevice: string;

  constructor(options: CloudHypervisorDriverOptions, cgroups: () => Promise<CgroupTree>) {
    this.#host = new KvmHost(CLOUD_HYPERVISOR, options);
    this.#cgroups = cgroups;
    this.#deadlines = options.deadlines ?? DEFAULT_API_DEADLINES;
    this.#memoryRestore = options.memoryRestore ?? 'eager';
    this.#faultDevice = options.faultDevice ?? FAULT_DEVICE;
    this.features = {
      pause: true,
      snapshot: true,
      // As with QEMU: everything of the guest goes on where it was.
      needsSnapshotPrepare: false,
      // Pages that were not read yet would be missing in the next state.
      needsMemoryPreload: this.#memoryRestore === 'on-demand',
      diskFormats: ['raw'],
    };
  }

  describe(): Promise<VmmDescription> {
    return this.#host.describe('cloud-hypervisor');
  }

  async snapshotMachine(): Promise<string> {
    const { version, processor } = await this.#saved();
    return `cloud-hypervisor ${version}, machine ${MACHINE_REVISION}, kvm, cpu of ${processor}`;
  }

  async checkBoot(spec: VmSpec): Promise<void> {
    await checkMachine(spec, [spec.kernelPath, spec.initrdPath]);
    await checkKernel(spec);
  }

  async bootOnce(spec: VmSpec, limitMs: number, signal?: AbortSignal): Promise<CloudHypervisorVm | undefined> {
    return bootOnce(await this.#require(), spec, limitMs, signal);
  }

  async restore(machine: VmMachine, state: VmState, signal?: AbortSignal): Promise<CloudHypervisorVm> {
    const [host, { processor }] = await Promise.all([this.#require(), this.#saved()]);
    return restoreVm({ ...host, machine, state, memory: this.#memoryRestore, processor }, signal);
  }

  async save(vm: CloudHypervisorVm, memoryPath: string, state: VmState, signal?: AbortSignal): Promise<SavedState> {
    return saveState(vm, memoryPath, state, await this.#saved(), signal);
  }

  adopt(handle: VmHandle, cgroup: VmCgroup | undefined): CloudHypervisorVm {
    return new CloudHypervisorVm({ handle, cgroup, exited: undefined }, this.#deadlines.callMs);
  }

  logsOf(runDir: string): readonly string[] {
    const { console, log, events } = cloudHypervisorRunFiles(runDir);
    return [console, log, events];
  }

  /** What a state depends on. */
  async #saved(): Promise<{ readonly version: string; readonly processor: string }> {
    const { version } = await this.#host.ask();
    return { version: version.text, processor: hostProcessor(readFileSync('/proc/cpuinfo', 'utf8')) };
  }

  /** Throws not_set_up or not_supported when no VM can run here. */
  async #require(): Promise<CloudHypervisorHost> {
    const [{ program, version }, cgroups] = await Promise.all([this.#host.require(), this.#cgroups()]);
    const onDemand = this.#memoryRestore === 'on-demand';
    if (onDemand) await this.#requireOnDemand(version);
    return {
      program,
      version,
      cgroups,
      kvmDevice: this.#host.kvmDevice,
      faultDevice: onDemand ? this.#faultDevice : undefined,
      deadlines: this.#deadlines,
    };
  }

  async #requireOnDemand({ restoresOnDemand, text }: CloudHypervisorVersion): Promise<void> {
    if (!restoresOnDemand)
      throw new NestboxError('not_supported', `Cloud Hypervisor ${text} cannot restore memory on demand; 52 can.`);
    const mode = await stat(this.#faultDevice).then(
      (found) => found.mode,
      () => 0,
    );
    // Its user is nobody on this host, and has the device's group.
    if ((mode & 0o006) === 0o006 || (mode & 0o060) === 0o060) return;
    const message = `Memory is restored on demand through ${this.#faultDevice}, which its group must be able to read and write.`;
    throw new NestboxError('not_set_up', message);
  }
}
