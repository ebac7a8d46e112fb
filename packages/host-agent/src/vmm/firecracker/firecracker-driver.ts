import { readFileSync } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import { resolve } from 'node:path';
import { NestboxError } from '@nestbox/contract';
import { isProcessAlive, type Logger } from '@nestbox/kit';
import { VmmFaultError, VmmUnavailableError } from '../api/vmm-api.ts';
import { type BootWatchdog, DEFAULT_BOOT_WATCHDOG, describeSilence, firstSignLimitMs } from '../boot-watchdog.ts';
import { CgroupTree } from '../cgroup/cgroup.ts';
import { type ConsoleLimits, limitConsoleLog } from '../console.ts';
import type {
  SavedState,
  VmDriver,
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
import { sameMount } from '../jail/jail.ts';
import { readProcessWords } from '../processes.ts';
import { programPath } from '../program-path.ts';
import { hostProcessor } from '../qemu/save-state.ts';
import { removeStrays } from '../strays.ts';
import { bootOnce } from './boot.ts';
import { checkKernel, checkMachine } from './check-machine.ts';
import { DEFAULT_DEADLINES, FirecrackerVm, type VmDeadlines } from './firecracker-vm.ts';
import type { FirecrackerHost, FirecrackerProgram } from './launch-firecracker.ts';
import { restoreVm } from './restore.ts';
import { firecrackerRunFiles, removeRunFiles, runDirOfCommandLine } from './run-files.ts';
import { MACHINE_REVISION, saveState } from './save-state.ts';
import { askFirecrackerVersion } from './version.ts';

/** Whether KVM runs guests here, with the reason as a sentence for users. */
export interface UsableKvm {
  readonly works: boolean;
  readonly reason: string;
}

export interface FirecrackerDriverOptions {
  /** NestboxPaths.runDir: every VM's run folder is right below. */
  readonly runRoot: string;
  /** NestboxPaths.instance. */
  readonly instance: string;
  readonly logger: Logger;
  /** Asked once and remembered. */
  readonly askKvm: () => Promise<UsableKvm>;
  /** A name in PATH, or a path. Default: firecracker. A stand-in is a whole program with the files that it needs. */
  readonly program?: string | FirecrackerProgram;
  /** Default: /dev/kvm. */
  readonly kvmDevice?: string;
  readonly bootWatchdog?: BootWatchdog;
  readonly deadlines?: VmDeadlines;
  /** Default CONSOLE_LIMITS. */
  readonly consoleLimits?: ConsoleLimits;
}

export const FIRECRACKER_BINARY = 'firecracker';
const KVM_DEVICE = '/dev/kvm';
const LOGS_CHECK_MS = 10_000;

/** Runs VMs on Firecracker, which needs KVM. */
export function createFirecrackerDriver(options: FirecrackerDriverOptions): VmDriver {
  return new FirecrackerDriver(options);
}

class FirecrackerDriver implements VmDriver {
  readonly name = 'firecracker';
  readonly features: VmFeatures = {
    pause: true,
    snapshot: true,
    // As with QEMU: everything of the guest goes on where it was.
    needsSnapshotPrepare: false,
    // A restored VM maps the whole image, so its next state is complete without.
    needsMemoryPreload: false,
    diskFormats: ['raw'],
  };
  readonly #options: FirecrackerDriverOptions;
  readonly #runRoot: string;
  readonly #deadlines: VmDeadlines;
  readonly #vms = new Map<string, FirecrackerVm>();
  /** Sandboxes by run folder whose start is under way: their processes are no strays. */
  readonly #starting = new Map<string, string>();
  readonly #notices: ExitNotices;
  readonly #logsTimer: NodeJS.Timeout;
  #description: Promise<{ readonly version: string; readonly kvm: UsableKvm }> | undefined;
  #cgroups: Promise<CgroupTree> | undefined;
  #bootRetries = 0;

  constructor(options: FirecrackerDriverOptions) {
    this.#options = options;
    this.#runRoot = resolve(options.runRoot);
    this.#deadlines = options.deadlines ?? DEFAULT_DEADLINES;
    this.#notices = new ExitNotices(options.logger);
    this.#logsTimer = setInterval(() => void this.#limitLogs(), LOGS_CHECK_MS);
    this.#logsTimer.unref();
  }

  get bootRetries(): number {
    return this.#bootRetries;
  }

  async describe(): Promise<VmmDescription> {
    const { version, kvm } = await this.#askOnce();
    const accelerator = kvm.works ? 'kvm' : 'none';
    const reason = kvm.works ? kvm.reason : `Firecracker needs KVM, which cannot be used: ${kvm.reason}`;
    return { vmm: 'firecracker', version, accelerator, reason };
  }

  start(spec: VmSpec, signal?: AbortSignal): Promise<VmHandle> {
    return this.#begin(spec, 'The VM could not be started.', signal, async () => {
      await checkMachine(spec, [spec.kernelPath, spec.initrdPath]);
      await checkKernel(spec);
      const host = await this.#host();
      const watchdog = this.#options.bootWatchdog ?? DEFAULT_BOOT_WATCHDOG;
      for (let attempt = 0; attempt <= watchdog.retries; attempt++) {
        if (attempt > 0) {
          this.#bootRetries++;
          this.#options.logger.warn({ vmId: spec.vmId, attempt }, 'no sign of life from the guest; once more');
        }
        const vm = await bootOnce({ ...host, spec, limitMs: firstSignLimitMs(watchdog, attempt) }, signal);
        if (vm !== undefined) return vm;
      }
      throw new NestboxError('boot_timeout', await describeSilence(spec, watchdog.retries + 1));
    });
  }

  restore(machine: VmMachine, state: VmState, signal?: AbortSignal): Promise<VmHandle> {
    return this.#begin(machine, 'The VM could not be restored.', signal, async () =>
      restoreVm({ ...(await this.#host()), machine, state }, signal),
    );
  }

  async #begin(
    machine: VmMachine,
    failure: string,
    signal: AbortSignal | undefined,
    start: () => Promise<FirecrackerVm>,
  ): Promise<VmHandle> {
    this.#starting.set(machine.runDir, machine.vmId);
    try {
      const vm = await start();
      this.#vms.set(handleKey(vm.handle), vm);
      return vm.handle;
    } catch (error) {
      throw toDriverError(error, failure, signal);
    } finally {
      this.#starting.delete(machine.runDir);
    }
  }

  async snapshotMachine(): Promise<string> {
    const { version } = await this.#askOnce();
    const processor = hostProcessor(readFileSync('/proc/cpuinfo', 'utf8'));
    return `firecracker ${version}, machine ${MACHINE_REVISION}, kvm, cpu of ${processor}`;
  }

  save(handle: VmHandle, memoryPath: string, state: VmState, signal?: AbortSignal): Promise<SavedState> {
    return this.#withVm(handle, signal, 'The state of the VM could not be saved.', (vm) =>
      saveState(vm, memoryPath, state, signal),
    );
  }

  async status(handle: VmHandle): Promise<VmStatus> {
    const vm = await this.#find(handle);
    if (vm === undefined || !vm.isAlive) return { state: 'gone', reason: await this.#explainEnd(handle) };
    try {
      return await vm.queryStatus();
    } catch (error) {
      const explained = await vm.explainFailure(error);
      if (explained instanceof NestboxError && explained.code === 'vm_died')
        return { state: 'gone', reason: explained.message };
      throw explained;
    }
  }

  pause(handle: VmHandle, signal?: AbortSignal): Promise<void> {
    return this.#withVm(handle, signal, 'The VM did not follow.', (vm) => vm.setRunning(false, signal));
  }

  resume(handle: VmHandle, signal?: AbortSignal): Promise<void> {
    return this.#withVm(handle, signal, 'The VM did not follow.', (vm) => vm.setRunning(true, signal));
  }

  /** Does something with a VM that is alive. Throws vm_died when it is not, or not any more. */
  async #withVm<T>(
    handle: VmHandle,
    signal: AbortSignal | undefined,
    failure: string,
    work: (vm: FirecrackerVm) => Promise<T>,
  ): Promise<T> {
    const vm = await this.#find(handle);
    if (vm === undefined || !vm.isAlive) throw new NestboxError('vm_died', await this.#explainEnd(handle));
    try {
      signal?.throwIfAborted();
      return await work(vm);
    } catch (error) {
      if (signal?.aborted) throw toDriverError(error, failure, signal);
      const original = error instanceof SuppressedError ? error.suppressed : error;
      const isCall = original instanceof VmmFaultError || original instanceof VmmUnavailableError;
      if (!isCall && !vm.isAlive) throw new NestboxError('vm_died', await vm.explainEnd(), { cause: error });
      throw toDriverError(await vm.explainFailure(original), failure, signal);
    }
  }

  /**
   * SIGKILL at once, whether `graceful` or not: Firecracker has no handler for SIGTERM, which would end it in the same way
   * elsewhere, and is ignored by the first process of a pid namespace. What the guest has flushed is on the host's disk.
   */
  async destroy(handle: VmHandle): Promise<void> {
    const vm = await this.#find(handle);
    if (vm !== undefined) {
      await endProcess(handle.process, { graceMs: 0 });
      // Whoever waits for the exit still wants what the cgroup and the log say of it.
      await vm.explainEnd();
      this.#vms.delete(handleKey(handle));
    }
    // An old handle must not take the files of the sandbox's next VM, nor a damaged one those of others.
    const inUse = [...this.#vms.values()].some((other) => other.handle.runDir === handle.runDir && other.isAlive);
    if (inUse || this.#starting.has(handle.runDir) || !isRunDirBelow(this.#runRoot, handle.runDir)) return;
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
      booting: this.#starting,
      runDirOfCommandLine,
      removeRunFiles,
    });
  }

  async close(): Promise<void> {
    clearInterval(this.#logsTimer);
    this.#notices.close();
    this.#vms.clear();
  }

  /**
   * The VM of a handle: one that is known already, or one whose process is alive and, by its command line, is the Firecracker of
   * that run folder. So neither a pid used again nor a damaged handle ever leads to somebody else's process.
   */
  async #find(handle: VmHandle): Promise<FirecrackerVm | undefined> {
    const key = handleKey(handle);
    const known = this.#vms.get(key);
    if (known !== undefined) return known;
    if (!isRunDirBelow(this.#runRoot, handle.runDir) || !isProcessAlive(handle.process)) return undefined;
    const words = await readProcessWords(handle.process.pid, 'cmdline');
    if (words === undefined || runDirOfCommandLine(words) !== handle.runDir) return undefined;
    const vm = this.#vms.get(key) ?? (await this.#adopt(handle));
    this.#vms.set(key, vm);
    return vm;
  }

  async #adopt(handle: VmHandle): Promise<FirecrackerVm> {
    const cgroup = (await this.#cgroupTree()).find(handle.cgroup, handle.vmId);
    return new FirecrackerVm(handle, { cgroup, exited: undefined, deadlines: this.#deadlines });
  }

  async #explainEnd(handle: VmHandle): Promise<string> {
    const known = this.#vms.get(handleKey(handle));
    if (known !== undefined) return known.explainEnd();
    if (!isRunDirBelow(this.#runRoot, handle.runDir)) return 'No such VM is running.';
    return (await this.#adopt(handle)).explainEnd();
  }

  /** Shared by all who ask; a failure is not remembered, since a user may mend it at any moment. */
  #askOnce(): Promise<{ readonly version: string; readonly kvm: UsableKvm }> {
    const ask = async () => {
      const { command } = await this.#program();
      return { version: await askFirecrackerVersion(command), kvm: await this.#options.askKvm() };
    };
    this.#description ??= ask().catch((error: unknown) => {
      this.#description = undefined;
      throw error;
    });
    return this.#description;
  }

  async #program(): Promise<FirecrackerProgram> {
    const { program } = this.#options;
    if (typeof program === 'object') return program;
    const name = program ?? FIRECRACKER_BINARY;
    const path = await programPath(name).catch((cause: unknown) => {
      const message = `The program ${name} is missing. Install Firecracker, or name its program by NESTBOX_FIRECRACKER_BIN.`;
      throw new NestboxError('not_set_up', message, { cause });
    });
    return { command: [path], mounts: [sameMount(path)] };
  }

  /** Throws not_set_up when no VM can run here. */
  async #host(): Promise<FirecrackerHost> {
    const kvmDevice = this.#options.kvmDevice ?? KVM_DEVICE;
    await access(kvmDevice, constants.R_OK | constants.W_OK).catch((cause: unknown) => {
      throw new NestboxError('not_set_up', `Firecracker needs KVM, and ${kvmDevice} cannot be opened.`, { cause });
    });
    const { kvm } = await this.#askOnce();
    if (!kvm.works) throw new NestboxError('not_set_up', `Firecracker needs KVM, which cannot be used: ${kvm.reason}`);
    const [program, cgroups] = await Promise.all([this.#program(), this.#cgroupTree()]);
    return { program, cgroups, kvmDevice, deadlines: this.#deadlines };
  }

  #cgroupTree(): Promise<CgroupTree> {
    this.#cgroups ??= CgroupTree.open(this.#options.instance);
    return this.#cgroups;
  }

  async #limitLogs(): Promise<void> {
    for (const { handle, isAlive } of this.#vms.values()) {
      if (!isAlive) continue;
      const { console, log, metrics } = firecrackerRunFiles(handle.runDir);
      try {
        for (const path of [console, log, metrics]) await limitConsoleLog(path, this.#options.consoleLimits);
      } catch (error) {
        this.#options.logger.warn({ err: error, vmId: handle.vmId }, 'the logs of a VM could not be shortened');
      }
    }
  }
}
