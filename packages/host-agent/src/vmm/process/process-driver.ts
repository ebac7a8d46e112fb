import { NestboxError } from '@nestbox/contract';
import type { Logger } from '@nestbox/kit';
import { type BootWatchdog, DEFAULT_BOOT_WATCHDOG, describeSilence, firstSignLimitMs } from '../boot-watchdog.ts';
import { CgroupTree } from '../cgroup/cgroup.ts';
import { type ConsoleLimits, limitConsoleLog } from '../console.ts';
import type {
  LayeringVmDriver,
  SavedState,
  VmDriver,
  VmFeatures,
  VmHandle,
  VmMachine,
  VmmDescription,
  VmmName,
  VmSpec,
  VmState,
  VmStatus,
} from '../driver.ts';
import { endProcess } from '../end-process.ts';
import { toDriverError, vmmUnreachable } from '../errors.ts';
import { ExitNotices } from '../exit-notices.ts';
import { handleKey } from '../handle-identity.ts';
import { removeStrays } from '../strays.ts';
import type { LayeringVmm, ProcessVm, ProcessVmm } from './process-vmm.ts';
import { VmTable } from './vm-table.ts';

/** What every driver of this kind is made with. */
export interface ProcessDriverOptions {
  /** NestboxPaths.runDir: every VM's run folder is right below. */
  readonly runRoot: string;
  readonly logger: Logger;
  readonly bootWatchdog?: BootWatchdog;
  /** Default CONSOLE_LIMITS. */
  readonly consoleLimits?: ConsoleLimits;
  /** How often logs are looked at. Default 10 s. */
  readonly consoleCheckMs?: number;
}

const LOGS_CHECK_MS = 10_000;

/** cgroups of an installation, opened at the first question. */
export function openCgroupsOnce(instance: string): () => Promise<CgroupTree> {
  let tree: Promise<CgroupTree> | undefined;
  return () => {
    tree ??= CgroupTree.open(instance);
    return tree;
  };
}

/** A driver for a VM manager that runs as a process for each VM. */
export function createProcessDriver<Vm extends ProcessVm>(
  vmm: ProcessVmm<Vm>,
  cgroups: () => Promise<CgroupTree>,
  options: ProcessDriverOptions,
): VmDriver {
  return new ProcessDriver(vmm, cgroups, options);
}

/** The same for one whose VMs may be on layers. */
export function createLayeringDriver<Vm extends ProcessVm>(
  vmm: LayeringVmm<Vm>,
  cgroups: () => Promise<CgroupTree>,
  options: ProcessDriverOptions,
): LayeringVmDriver {
  const driver = new ProcessDriver(vmm, cgroups, options);
  return Object.assign(driver, {
    switchDisk: (handle: VmHandle, newPath: string, signal?: AbortSignal) =>
      driver.withVm(handle, signal, 'The disk of the VM could not be switched.', (vm) =>
        vmm.switchDisk(vm, newPath, signal),
      ),
    rootDiskPath: (handle: VmHandle) =>
      driver.withVm(handle, undefined, 'The VM does not say which disk it has.', (vm) => vmm.rootDiskPath(vm)),
    flattenDisk: (handle: VmHandle, basePath: string, signal?: AbortSignal) =>
      driver.withVm(handle, signal, 'The disk of the VM could not be flattened.', (vm) =>
        vmm.flattenDisk(vm, basePath, signal),
      ),
  });
}

class ProcessDriver<Vm extends ProcessVm> implements VmDriver {
  readonly name: VmmName;
  readonly features: VmFeatures;
  readonly #vmm: ProcessVmm<Vm>;
  readonly #cgroups: () => Promise<CgroupTree>;
  readonly #options: ProcessDriverOptions;
  readonly #table: VmTable<Vm>;
  readonly #notices: ExitNotices;
  readonly #logsTimer: NodeJS.Timeout;
  #bootRetries = 0;

  constructor(vmm: ProcessVmm<Vm>, cgroups: () => Promise<CgroupTree>, options: ProcessDriverOptions) {
    this.name = vmm.name;
    this.features = vmm.features;
    this.#vmm = vmm;
    this.#cgroups = cgroups;
    this.#options = options;
    this.#table = new VmTable(vmm, options.runRoot, cgroups);
    this.#notices = new ExitNotices(options.logger);
    this.#logsTimer = setInterval(() => void this.#limitLogs(), options.consoleCheckMs ?? LOGS_CHECK_MS);
    this.#logsTimer.unref();
  }

  get bootRetries(): number {
    return this.#bootRetries;
  }

  describe(): Promise<VmmDescription> {
    return this.#vmm.describe();
  }

  snapshotMachine(): Promise<string> {
    return this.#vmm.snapshotMachine();
  }

  start(spec: VmSpec, signal?: AbortSignal): Promise<VmHandle> {
    return this.#begin(spec, 'The VM could not be started.', signal, async () => {
      await this.#vmm.checkBoot(spec);
      const watchdog = this.#options.bootWatchdog ?? DEFAULT_BOOT_WATCHDOG;
      for (let attempt = 0; attempt <= watchdog.retries; attempt++) {
        if (attempt > 0) {
          this.#bootRetries++;
          this.#options.logger.warn({ vmId: spec.vmId, attempt }, 'no sign of life from the guest; once more');
        }
        const vm = await this.#vmm.bootOnce(spec, firstSignLimitMs(watchdog, attempt), signal);
        if (vm !== undefined) return vm;
      }
      throw new NestboxError('boot_timeout', await describeSilence(spec, watchdog.retries + 1));
    });
  }

  restore(machine: VmMachine, state: VmState, signal?: AbortSignal): Promise<VmHandle> {
    return this.#begin(machine, 'The VM could not be restored.', signal, () =>
      this.#vmm.restore(machine, state, signal),
    );
  }

  async #begin(
    machine: VmMachine,
    failure: string,
    signal: AbortSignal | undefined,
    start: () => Promise<Vm>,
  ): Promise<VmHandle> {
    this.#table.starting.set(machine.runDir, machine.vmId);
    try {
      const vm = await start();
      this.#table.add(vm);
      return vm.handle;
    } catch (error) {
      throw toDriverError(error, failure, signal);
    } finally {
      this.#table.starting.delete(machine.runDir);
    }
  }

  save(handle: VmHandle, memoryPath: string, state: VmState, signal?: AbortSignal): Promise<SavedState> {
    return this.withVm(handle, signal, 'The state of the VM could not be saved.', (vm) =>
      this.#vmm.save(vm, memoryPath, state, signal),
    );
  }

  async status(handle: VmHandle): Promise<VmStatus> {
    const vm = await this.#table.find(handle);
    if (vm === undefined || !vm.isAlive) return { state: 'gone', reason: await this.#table.explainEnd(handle) };
    try {
      return await vm.queryStatus();
    } catch (error) {
      const explained = await vm.explainFailure(error);
      if (!vm.isAlive) return { state: 'gone', reason: await vm.explainEnd() };
      throw explained instanceof NestboxError ? explained : vmmUnreachable(error);
    }
  }

  pause(handle: VmHandle, signal?: AbortSignal): Promise<void> {
    return this.withVm(handle, signal, 'The VM did not follow.', (vm) => vm.setRunning(false, signal));
  }

  resume(handle: VmHandle, signal?: AbortSignal): Promise<void> {
    return this.withVm(handle, signal, 'The VM did not follow.', (vm) => vm.setRunning(true, signal));
  }

  /** Does something with a VM that is alive. Throws vm_died when it is not, or not any more. */
  async withVm<T>(
    handle: VmHandle,
    signal: AbortSignal | undefined,
    failure: string,
    work: (vm: Vm) => Promise<T>,
  ): Promise<T> {
    const vm = await this.#table.find(handle);
    if (vm === undefined || !vm.isAlive) throw new NestboxError('vm_died', await this.#table.explainEnd(handle));
    try {
      signal?.throwIfAborted();
      return await work(vm);
    } catch (error) {
      if (signal?.aborted) throw toDriverError(error, failure, signal);
      // An undo that failed on the way out stands in front of the error that matters.
      const original: unknown = error instanceof SuppressedError ? error.suppressed : error;
      const explained = await vm.explainFailure(original);
      if (explained === original && !vm.isAlive)
        throw new NestboxError('vm_died', await vm.explainEnd(), { cause: error });
      throw toDriverError(explained, failure, signal);
    }
  }

  async destroy(handle: VmHandle, { graceful } = { graceful: true }): Promise<void> {
    const vm = await this.#table.find(handle);
    if (vm !== undefined) {
      await endProcess(handle.process, { graceMs: graceful ? this.#vmm.stopGraceMs : 0 });
      // What the cgroup and the log say of the end goes with them; whoever waits for the exit still wants it.
      await vm.explainEnd();
      await vm.close();
      this.#table.forget(handle);
    }
    if (!this.#table.isFree(handle.runDir)) return;
    await this.#vmm.removeRunFiles(handle.runDir);
    await (await this.#cgroups()).find(handle.cgroup, handle.vmId)?.remove();
  }

  onExit(handle: VmHandle, listener: (reason: string) => void): () => void {
    const waitUntilGone = async (signal: AbortSignal) => {
      const vm = await this.#table.find(handle);
      return vm === undefined ? this.#table.explainEnd(handle) : vm.waitUntilGone(signal);
    };
    return this.#notices.add(handleKey(handle), waitUntilGone, listener);
  }

  async removeStrays(known: readonly VmHandle[]): Promise<number[]> {
    const own = this.#table.vms.filter((vm) => vm.isOwn).map((vm) => vm.handle);
    const { runDirOfCommandLine, removeRunFiles } = this.#vmm;
    return removeStrays({
      runRoot: this.#options.runRoot,
      cgroups: await this.#cgroups(),
      known: [...known, ...own],
      booting: this.#table.starting,
      runDirOfCommandLine,
      removeRunFiles,
    });
  }

  async close(): Promise<void> {
    clearInterval(this.#logsTimer);
    this.#notices.close();
    await this.#table.close();
  }

  async #limitLogs(): Promise<void> {
    for (const { handle, isAlive } of this.#table.vms) {
      if (!isAlive) continue;
      try {
        for (const path of this.#vmm.logsOf(handle.runDir)) await limitConsoleLog(path, this.#options.consoleLimits);
      } catch (error) {
        this.#options.logger.warn({ err: error, vmId: handle.vmId }, 'the logs of a VM could not be shortened');
      }
    }
  }
}
