import { resolve } from 'node:path';
import { NestboxError } from '@nestbox/contract';
import { isProcessAlive, type Logger } from '@nestbox/kit';
import { type BootWatchdog, DEFAULT_BOOT_WATCHDOG, describeSilence, firstSignLimitMs } from '../boot-watchdog.ts';
import { CgroupTree } from '../cgroup/cgroup.ts';
import { type ConsoleLimits, limitConsoleLog } from '../console.ts';
import type {
  LayeringVmDriver,
  SavedState,
  VmFeatures,
  VmHandle,
  VmMachine,
  VmmDescription,
  VmSpec,
  VmState,
  VmStatus,
} from '../driver.ts';
import { endProcess } from '../end-process.ts';
import { toDriverError } from '../errors.ts';
import { ExitNotices } from '../exit-notices.ts';
import { handleKey, isRunDirBelow } from '../handle-identity.ts';
import { readProcessWords } from '../processes.ts';
import { programPath } from '../program-path.ts';
import { removeStrays } from '../strays.ts';
import { describeAccelerator, type QemuAccelerator, type WantedAccelerator } from './accelerator.ts';
import { bootOnce, checkMachine, vmmUnreachable } from './boot.ts';
import { QEMU_BINARY, runDirOfCommandLine } from './command-line.ts';
import { flattenDisk, rootDisk, switchDisk } from './disks.ts';
import type { QemuHost } from './launch-qemu.ts';
import { type ProbeResult, probe } from './probe.ts';
import { QemuVm } from './qemu-vm.ts';
import { QmpUnavailableError } from './qmp-client.ts';
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
const TRANSLATION_BUFFER_MIB = 64;
const CONSOLE_CHECK_MS = 10_000;

/** Runs VMs on QEMU. */
export function createQemuDriver(options: QemuDriverOptions): LayeringVmDriver {
  return new QemuDriver(options);
}

class QemuDriver implements LayeringVmDriver {
  readonly name = 'qemu';
  readonly features: VmFeatures = {
    pause: true,
    snapshot: true,
    // Everything of the guest goes on where it was; the agent closes old connections when it is initialised again.
    needsSnapshotPrepare: false,
    // A restored VM maps the whole image, so its next state is complete without.
    needsMemoryPreload: false,
    diskFormats: ['raw', 'qcow2'],
  };
  readonly #options: QemuDriverOptions;
  readonly #runRoot: string;
  readonly #vms = new Map<string, QemuVm>();
  /** Sandboxes by run folder whose boot is under way: their processes are no strays. */
  readonly #booting = new Map<string, string>();
  readonly #notices: ExitNotices;
  readonly #consoleTimer: NodeJS.Timeout;
  #probe: Promise<ProbeResult> | undefined;
  #cgroups: Promise<CgroupTree> | undefined;
  #programs: Promise<Pick<QemuHost, 'qemuBinary' | 'readOnlyOpen'>> | undefined;
  #bootRetries = 0;

  constructor(options: QemuDriverOptions) {
    this.#options = options;
    this.#runRoot = resolve(options.runRoot);
    this.#notices = new ExitNotices(options.logger);
    this.#consoleTimer = setInterval(() => void this.#limitConsoles(), options.consoleCheckMs ?? CONSOLE_CHECK_MS);
    this.#consoleTimer.unref();
  }

  get bootRetries(): number {
    return this.#bootRetries;
  }

  async describe(): Promise<VmmDescription> {
    const { qemuVersion, kvm } = await this.#probeOnce();
    const { accelerator, reason } = describeAccelerator(this.#options.accelerator ?? 'auto', kvm);
    const { support } = await this.#cgroupTree();
    const unbounded = support.version === undefined ? ` VMs are not bounded on this host: ${support.reason}.` : '';
    return { vmm: 'qemu', version: qemuVersion, accelerator, reason: `${reason}${unbounded}` };
  }

  async start(spec: VmSpec, signal?: AbortSignal): Promise<VmHandle> {
    this.#booting.set(spec.runDir, spec.vmId);
    try {
      await checkMachine(spec, [spec.kernelPath, spec.initrdPath]);
      const host = await this.#host();
      const watchdog = this.#options.bootWatchdog ?? DEFAULT_BOOT_WATCHDOG;
      for (let attempt = 0; attempt <= watchdog.retries; attempt++) {
        if (attempt > 0) {
          this.#bootRetries++;
          this.#options.logger.warn({ vmId: spec.vmId, attempt }, 'no sign of life from the guest; once more');
        }
        const limitMs = firstSignLimitMs(watchdog, attempt);
        const vm = await bootOnce({ ...host, spec, limitMs }, signal);
        if (vm === undefined) continue;
        this.#vms.set(handleKey(vm.handle), vm);
        return vm.handle;
      }
      throw new NestboxError('boot_timeout', await describeSilence(spec, watchdog.retries + 1));
    } catch (error) {
      throw toDriverError(error, 'The VM could not be started.', signal);
    } finally {
      this.#booting.delete(spec.runDir);
    }
  }

  async restore(machine: VmMachine, state: VmState, signal?: AbortSignal): Promise<VmHandle> {
    this.#booting.set(machine.runDir, machine.vmId);
    try {
      const vm = await restoreVm({ ...(await this.#host()), machine, state }, signal);
      this.#vms.set(handleKey(vm.handle), vm);
      return vm.handle;
    } catch (error) {
      throw toDriverError(error, 'The VM could not be restored.', signal);
    } finally {
      this.#booting.delete(machine.runDir);
    }
  }

  async snapshotMachine(): Promise<string> {
    const [{ qemuVersion }, accelerator] = await Promise.all([this.#probeOnce(), this.#accelerator()]);
    return describeSnapshotMachine(qemuVersion, accelerator);
  }

  save(handle: VmHandle, memoryPath: string, state: VmState, signal?: AbortSignal): Promise<SavedState> {
    return this.#withVm(handle, signal, 'The state of the VM could not be saved.', (vm) =>
      saveState(vm, memoryPath, state, signal),
    );
  }

  switchDisk(handle: VmHandle, newPath: string, signal?: AbortSignal): Promise<void> {
    return this.#withVm(handle, signal, 'The disk of the VM could not be switched.', (vm) =>
      switchDisk(vm, newPath, signal),
    );
  }

  rootDiskPath(handle: VmHandle): Promise<string> {
    return this.#withVm(handle, undefined, 'The VM does not say which disk it has.', async (vm) => {
      return (await rootDisk(vm)).path;
    });
  }

  flattenDisk(handle: VmHandle, basePath: string, signal?: AbortSignal): Promise<void> {
    return this.#withVm(handle, signal, 'The disk of the VM could not be flattened.', (vm) =>
      flattenDisk(vm, basePath, signal),
    );
  }

  async status(handle: VmHandle): Promise<VmStatus> {
    const vm = await this.#find(handle);
    if (vm === undefined || !vm.isAlive) return { state: 'gone', reason: await this.#explainEnd(handle) };
    try {
      return await vm.queryStatus();
    } catch (error) {
      if (await vm.isGoneSoon()) return { state: 'gone', reason: await vm.explainEnd() };
      throw vmmUnreachable(error);
    }
  }

  pause(handle: VmHandle, signal?: AbortSignal): Promise<void> {
    return this.#setRunning(handle, false, signal);
  }

  resume(handle: VmHandle, signal?: AbortSignal): Promise<void> {
    return this.#setRunning(handle, true, signal);
  }

  #setRunning(handle: VmHandle, running: boolean, signal: AbortSignal | undefined): Promise<void> {
    return this.#withVm(handle, signal, 'The VM did not follow.', (vm) => vm.setRunning(running, signal));
  }

  /** Does something with a VM that is alive. Throws vm_died when it is not, or not any more. */
  async #withVm<T>(
    handle: VmHandle,
    signal: AbortSignal | undefined,
    failure: string,
    work: (vm: QemuVm) => Promise<T>,
  ): Promise<T> {
    const vm = await this.#find(handle);
    if (vm === undefined || !vm.isAlive) throw new NestboxError('vm_died', await this.#explainEnd(handle));
    try {
      signal?.throwIfAborted();
      return await work(vm);
    } catch (error) {
      if (signal?.aborted) throw toDriverError(error, failure, signal);
      if (!vm.isAlive || (error instanceof QmpUnavailableError && (await vm.isGoneSoon())))
        throw new NestboxError('vm_died', await vm.explainEnd(), { cause: error });
      if (error instanceof QmpUnavailableError) throw vmmUnreachable(error);
      throw toDriverError(error, failure, signal);
    }
  }

  async destroy(handle: VmHandle, { graceful } = { graceful: true }): Promise<void> {
    const vm = await this.#find(handle);
    if (vm !== undefined) {
      await endProcess(handle.process, { graceMs: graceful ? (this.#options.stopGraceMs ?? STOP_GRACE_MS) : 0 });
      // What the cgroup and the log say of the end goes with them; whoever waits for the exit still wants it.
      await vm.explainEnd();
      await vm.close();
      this.#vms.delete(handleKey(handle));
    }
    // An old handle must not take the files of the sandbox's next VM, nor a damaged one those of others.
    const inUse = [...this.#vms.values()].some((other) => other.handle.runDir === handle.runDir && other.isAlive);
    if (inUse || this.#booting.has(handle.runDir) || !isRunDirBelow(this.#runRoot, handle.runDir)) return;
    await removeRunFiles(handle.runDir);
    await (await this.#cgroupTree()).find(handle.cgroup, handle.vmId)?.remove();
  }

  onExit(handle: VmHandle, listener: (reason: string) => void): () => void {
    const waitUntilGone = async (signal: AbortSignal) => {
      const vm = await this.#find(handle);
      return vm === undefined ? this.#explainEnd(handle) : vm.waitUntilGone(signal);
    };
    return this.#notices.add(handleKey(handle), waitUntilGone, listener);
  }

  async removeStrays(known: readonly VmHandle[]): Promise<number[]> {
    const own = [...this.#vms.values()].filter((vm) => vm.isOwn).map((vm) => vm.handle);
    return removeStrays({
      runRoot: this.#runRoot,
      cgroups: await this.#cgroupTree(),
      known: [...known, ...own],
      booting: this.#booting,
      runDirOfCommandLine,
      removeRunFiles,
    });
  }

  async close(): Promise<void> {
    clearInterval(this.#consoleTimer);
    this.#notices.close();
    await Promise.all([...this.#vms.values()].map((vm) => vm.close()));
    this.#vms.clear();
  }

  /**
   * The VM of a handle: one that is known already, or one whose process is alive and, by its command line, is the QEMU of
   * that run folder. So neither a pid used again nor a damaged handle ever leads to somebody else's process.
   */
  async #find(handle: VmHandle): Promise<QemuVm | undefined> {
    const key = handleKey(handle);
    const known = this.#vms.get(key);
    if (known !== undefined) return known;
    if (!isRunDirBelow(this.#runRoot, handle.runDir) || !isProcessAlive(handle.process)) return undefined;
    const words = await readProcessWords(handle.process.pid, 'cmdline');
    if (words === undefined || runDirOfCommandLine(words) !== handle.runDir) return undefined;
    const cgroup = (await this.#cgroupTree()).find(handle.cgroup, handle.vmId);
    const vm = this.#vms.get(key) ?? new QemuVm(handle, cgroup, undefined);
    this.#vms.set(key, vm);
    return vm;
  }

  async #explainEnd(handle: VmHandle): Promise<string> {
    const known = this.#vms.get(handleKey(handle));
    if (known !== undefined) return known.explainEnd();
    if (!isRunDirBelow(this.#runRoot, handle.runDir)) return 'No such VM is running.';
    const cgroup = (await this.#cgroupTree()).find(handle.cgroup, handle.vmId);
    return new QemuVm(handle, cgroup, undefined).explainEnd();
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
      this.#cgroupTree(),
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

  #cgroupTree(): Promise<CgroupTree> {
    this.#cgroups ??= CgroupTree.open(this.#options.instance);
    return this.#cgroups;
  }

  async #limitConsoles(): Promise<void> {
    for (const { handle, isAlive } of this.#vms.values()) {
      if (!isAlive) continue;
      try {
        await limitConsoleLog(qemuRunFiles(handle.runDir).console, this.#options.consoleLimits);
      } catch (error) {
        this.#options.logger.warn({ err: error, vmId: handle.vmId }, 'the console log could not be shortened');
      }
    }
  }
}
