import { NestboxError } from '@nestbox/contract';
import type { Logger } from '@nestbox/kit';
import type { BootWatchdog } from '../boot-watchdog.ts';
import type { CgroupTree } from '../cgroup/cgroup.ts';
import type { ConsoleLimits } from '../console.ts';
import type { LayeringVmDriver, VmMachine, VmmDescription, VmSpec, VmState } from '../driver.ts';
import { createLayeringDriver, openCgroupsOnce } from '../process/process-driver.ts';
import type { LayeringVmm, ProcessVmm } from '../process/process-vmm.ts';
import { programPath } from '../program-path.ts';
import { describeAccelerator, type QemuAccelerator, type WantedAccelerator } from './accelerator.ts';
import { bootOnce, checkMachine } from './boot.ts';
import { QEMU_BINARY, runDirOfCommandLine } from './command-line.ts';
import { flattenDisk, rootDisk, switchDisk } from './disks.ts';
import type { QemuHost } from './launch-qemu.ts';
import { type ProbeResult, probe } from './probe.ts';
import { QemuVm } from './qemu-vm.ts';
import { installReadOnlyOpen } from './read-only-open.ts';
import { restoreVm } from './restore.ts';
import { qemuRunFiles, removeRunFiles } from './run-files.ts';
import { describeSnapshotMachine, saveState } from './save-state.ts';

export interface QemuDriverOptions {
  /** NestboxPaths.runDir: every VM's run folder is right below. */
  readonly runRoot: string;
  /** NestboxPaths.instance. */
  readonly instance: string;
  /** Where the answer of the KVM probe is kept. */
  readonly cacheDir: string;
  readonly logger: Logger;
  /** Default `auto`. */
  readonly accelerator?: WantedAccelerator;
  readonly bootWatchdog?: BootWatchdog;
  /** Time for QEMU to end by itself after SIGTERM. Default 5 s. */
  readonly stopGraceMs?: number;
  /** TCG's buffer for translated code. Default 64. */
  readonly translationBufferMib?: number;
  /** Default: qemu-system-x86_64, looked up in PATH. */
  readonly qemuBinary?: string;
  /** Default CONSOLE_LIMITS. */
  readonly consoleLimits?: ConsoleLimits;
  /** How often console logs are looked at. Default 10 s. */
  readonly consoleCheckMs?: number;
}

const STOP_GRACE_MS = 5000;
/**
 * What a guest's first commands and a waiting VM's rehearsals translate is some 60 to 90 MiB. A buffer that runs full is emptied whole, and
 * what was rehearsed is then translated again under the next user's eyes. It takes memory only as far as it is filled.
 */
const TRANSLATION_BUFFER_MIB = 128;

/** Runs VMs on QEMU. */
export function createQemuDriver(options: QemuDriverOptions): LayeringVmDriver {
  const cgroups = openCgroupsOnce(options.instance);
  return createLayeringDriver(new Qemu(options, cgroups), cgroups, options);
}

class Qemu implements LayeringVmm<QemuVm> {
  readonly name = 'qemu';
  readonly features = {
    pause: true,
    snapshot: true,
    // Everything of the guest goes on where it was; the agent closes old connections when it is initialised again.
    needsSnapshotPrepare: false,
    // A restored VM maps the whole image, so its next state is complete without.
    needsMemoryPreload: false,
    diskFormats: ['raw', 'qcow2'],
  } as const;
  readonly stopGraceMs: number;
  readonly runDirOfCommandLine = runDirOfCommandLine;
  readonly removeRunFiles = removeRunFiles;
  readonly save = saveState;
  readonly switchDisk = switchDisk;
  readonly flattenDisk = flattenDisk;
  readonly #options: QemuDriverOptions;
  readonly #cgroups: () => Promise<CgroupTree>;
  #probe: Promise<ProbeResult> | undefined;
  #programs: Promise<Pick<QemuHost, 'qemuBinary' | 'readOnlyOpen'>> | undefined;

  constructor(options: QemuDriverOptions, cgroups: () => Promise<CgroupTree>) {
    this.#options = options;
    this.#cgroups = cgroups;
    this.stopGraceMs = options.stopGraceMs ?? STOP_GRACE_MS;
  }

  async describe(): Promise<VmmDescription> {
    const { qemuVersion, kvm } = await this.#probeOnce();
    const { accelerator, reason } = describeAccelerator(this.#options.accelerator ?? 'auto', kvm);
    const { support } = await this.#cgroups();
    const unbounded = support.version === undefined ? ` VMs are not bounded on this host: ${support.reason}.` : '';
    return { vmm: 'qemu', version: qemuVersion, accelerator, reason: `${reason}${unbounded}` };
  }

  async snapshotMachine(): Promise<string> {
    const [{ qemuVersion }, accelerator] = await Promise.all([this.#probeOnce(), this.#accelerator()]);
    return describeSnapshotMachine(qemuVersion, accelerator);
  }

  checkBoot(spec: VmSpec): Promise<void> {
    return checkMachine(spec, [spec.kernelPath, spec.initrdPath]);
  }

  async bootOnce(spec: VmSpec, limitMs: number, signal?: AbortSignal): Promise<QemuVm | undefined> {
    return bootOnce({ ...(await this.#host()), spec, limitMs }, signal);
  }

  async restore(machine: VmMachine, state: VmState, signal?: AbortSignal): Promise<QemuVm> {
    return restoreVm({ ...(await this.#host()), machine, state }, signal);
  }

  async rootDiskPath(vm: QemuVm): Promise<string> {
    return (await rootDisk(vm)).path;
  }

  adopt(handle: QemuVm['handle'], cgroup: Parameters<ProcessVmm<QemuVm>['adopt']>[1]): QemuVm {
    return new QemuVm({ handle, cgroup, exited: undefined });
  }

  logsOf(runDir: string): readonly string[] {
    return [qemuRunFiles(runDir).console];
  }

  /** Shared by all who ask, so one caller's abort does not end it; it has a deadline of its own. */
  #probeOnce(): Promise<ProbeResult> {
    const { cacheDir, qemuBinary, accelerator } = this.#options;
    this.#probe ??= probe({ cacheDir, qemuBinary, askKvm: accelerator !== 'tcg' }).catch((error: unknown) => {
      this.#probe = undefined;
      throw error;
    });
    return this.#probe;
  }

  async #accelerator(): Promise<QemuAccelerator> {
    const { kvm } = await this.#probeOnce();
    const wanted = this.#options.accelerator ?? 'auto';
    if (wanted === 'kvm' && !kvm.works) throw new NestboxError('not_set_up', `KVM was asked for, but: ${kvm.reason}`);
    if (wanted !== 'tcg' && kvm.works) return { kind: 'kvm', cpuModel: kvm.cpuModel };
    return { kind: 'tcg', translationBufferMib: this.#options.translationBufferMib ?? TRANSLATION_BUFFER_MIB };
  }

  async #host(): Promise<QemuHost> {
    const [accelerator, cgroups, programs] = await Promise.all([
      this.#accelerator(),
      this.#cgroups(),
      this.#findPrograms(),
    ]);
    return { accelerator, cgroups, ...programs };
  }

  #findPrograms(): Promise<Pick<QemuHost, 'qemuBinary' | 'readOnlyOpen'>> {
    const { cacheDir, qemuBinary } = this.#options;
    this.#programs ??= Promise.all([programPath(qemuBinary ?? QEMU_BINARY), installReadOnlyOpen(cacheDir)]).then(
      ([path, readOnlyOpen]) => ({ qemuBinary: path, readOnlyOpen }),
    );
    this.#programs.catch(() => {
      this.#programs = undefined;
    });
    return this.#programs;
  }
}
