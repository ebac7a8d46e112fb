import { resolve } from 'node:path';
import { isProcessAlive } from '@nestbox/kit';
import type { CgroupTree } from '../cgroup/cgroup.ts';
import type { VmHandle } from '../driver.ts';
import { handleKey, isRunDirBelow } from '../handle-identity.ts';
import { readProcessWords } from '../processes.ts';
import type { ProcessVm, ProcessVmm } from './process-vmm.ts';

/** The VMs that a driver knows, and how it comes to know one that another process of ours started. */
export class VmTable<Vm extends ProcessVm> {
  readonly #vmm: Pick<ProcessVmm<Vm>, 'adopt' | 'runDirOfCommandLine'>;
  readonly #runRoot: string;
  readonly #cgroups: () => Promise<CgroupTree>;
  readonly #vms = new Map<string, Vm>();
  /** Sandboxes by run folder whose start is under way: their processes are no strays. */
  readonly starting = new Map<string, string>();

  constructor(
    vmm: Pick<ProcessVmm<Vm>, 'adopt' | 'runDirOfCommandLine'>,
    runRoot: string,
    cgroups: () => Promise<CgroupTree>,
  ) {
    this.#vmm = vmm;
    this.#runRoot = resolve(runRoot);
    this.#cgroups = cgroups;
  }

  get vms(): readonly Vm[] {
    return [...this.#vms.values()];
  }

  add(vm: Vm): void {
    this.#vms.set(handleKey(vm.handle), vm);
  }

  forget(handle: VmHandle): void {
    this.#vms.delete(handleKey(handle));
  }

  /**
   * The VM of a handle: one that is known already, or one whose process is alive and, by its command line, is the VMM of
   * that run folder. So neither a pid used again nor a damaged handle ever leads to somebody else's process.
   */
  async find(handle: VmHandle): Promise<Vm | undefined> {
    const key = handleKey(handle);
    const known = this.#vms.get(key);
    if (known !== undefined) return known;
    if (!isRunDirBelow(this.#runRoot, handle.runDir) || !isProcessAlive(handle.process)) return undefined;
    const words = await readProcessWords(handle.process.pid, 'cmdline');
    if (words === undefined || this.#vmm.runDirOfCommandLine(words) !== handle.runDir) return undefined;
    const cgroup = (await this.#cgroups()).find(handle.cgroup, handle.vmId);
    const vm = this.#vms.get(key) ?? this.#vmm.adopt(handle, cgroup);
    this.#vms.set(key, vm);
    return vm;
  }

  /** Why a VM is gone. Never throws. */
  async explainEnd(handle: VmHandle): Promise<string> {
    const known = this.#vms.get(handleKey(handle));
    if (known !== undefined) return known.explainEnd();
    if (!isRunDirBelow(this.#runRoot, handle.runDir)) return 'No such VM is running.';
    const cgroup = (await this.#cgroups()).find(handle.cgroup, handle.vmId);
    return this.#vmm.adopt(handle, cgroup).explainEnd();
  }

  /** Whether the run folder is that of no VM any more. An old handle must not take the files of the sandbox's next VM, nor a damaged one those of others. */
  isFree(runDir: string): boolean {
    const inUse = this.vms.some(({ handle, isAlive }) => handle.runDir === runDir && isAlive);
    return !inUse && !this.starting.has(runDir) && isRunDirBelow(this.#runRoot, runDir);
  }

  async close(): Promise<void> {
    await Promise.all(this.vms.map((vm) => vm.close()));
    this.#vms.clear();
  }
}
