import { access, constants, open, readdir, rm, symlink } from 'node:fs/promises';
import { join, resolve, sep } from 'node:path';
import { NestboxError } from '@nestbox/contract';
import { isProcessAlive, type Logger, type ProcessIdentity, readProcessIdentity } from '@nestbox/kit';
import { type CgroupLimits, CgroupTree } from '../cgroup/cgroup.ts';
import { limitConsoleLog, waitForText } from '../console.ts';
import {
  BOOT_SIGN_OF_LIFE,
  type VmDriver,
  type VmFeatures,
  type VmHandle,
  type VmmDescription,
  type VmSpec,
  type VmStatus,
} from '../driver.ts';
import { endProcess } from '../end-process.ts';
import { toDriverError } from '../errors.ts';
import { ExitNotices } from '../exit-notices.ts';
import { lastLines, readFileTail } from '../file-tail.ts';
import { launchDetached } from '../launch.ts';
import { findProcesses, readProcessWords } from '../processes.ts';
import { QEMU_BINARY, type QemuAccelerator, qemuArguments, qemuRunFiles, runDirOfCommandLine } from './command-line.ts';
import { type KvmAnswer, type ProbeResult, probe } from './probe.ts';
import { QemuVm } from './qemu-vm.ts';

export interface QemuDriverOptions {
  /** NestboxPaths.runDir: every VM's run folder is right below. */
  readonly runRoot: string;
  /** NestboxPaths.instance. */
  readonly instance: string;
  /** Where the answer of the KVM probe is kept. */
  readonly cacheDir: string;
  readonly logger: Logger;
  /** `auto`: KVM when a probe guest runs under it, else TCG. Default `auto`. */
  readonly accelerator?: 'auto' | 'kvm' | 'tcg';
  readonly bootWatchdog?: BootWatchdog;
  /** Time for QEMU to end by itself after SIGTERM. Default 5 s. */
  readonly stopGraceMs?: number;
  /** TCG's buffer for translated code. Default 64. */
  readonly translationBufferMib?: number;
  /** Default: qemu-system-x86_64, looked up in PATH. For tests. */
  readonly qemuBinary?: string;
}

export interface BootWatchdog {
  /** Without a sign of life after this time the VMM is killed and the boot begins again, with twice the time. */
  readonly firstSignMs: number;
  /** Boots after the first. */
  readonly retries: number;
}

/**
 * A boot shows its sign of life after 1 to 2 s under TCG on an idle machine. The time doubles with each retry, since on a
 * machine that is merely overloaded the same time again would only end the same way.
 */
export const DEFAULT_BOOT_WATCHDOG: BootWatchdog = { firstSignMs: 10_000, retries: 2 };

const STOP_GRACE_MS = 5000;
const TRANSLATION_BUFFER_MIB = 64;
/** sockaddr_un(7): 108 bytes with the NUL at the end. */
const MAX_SOCKET_PATH_BYTES = 107;
const CONSOLE_CHECK_MS = 10_000;

/** QEMU itself: code, heap, device state, page tables, stacks of its threads, and the disk's page cache to work in. */
export const QEMU_OVERHEAD_MIB = 128;
/** vCPUs, main loop and RCU, up to 64 workers for disk requests (util/thread-pool.c), and some to spare. */
const EXTRA_THREADS = 96;

/** Runs VMs on QEMU. Nothing happens before the first call. */
export function createQemuDriver(options: QemuDriverOptions): VmDriver {
  return new QemuDriver(options);
}

class QemuDriver implements VmDriver {
  readonly name = 'qemu';
  readonly features: VmFeatures = { pause: true, snapshot: false, needsMemoryPreload: false };
  readonly #options: QemuDriverOptions;
  readonly #logger: Logger;
  readonly #runRoot: string;
  readonly #vms = new Map<string, QemuVm>();
  /** Run folders of boots under way: their processes are no strays. */
  readonly #booting = new Set<string>();
  readonly #notices: ExitNotices;
  readonly #consoleTimer: NodeJS.Timeout;
  #probe: Promise<ProbeResult> | undefined;
  #cgroups: Promise<CgroupTree> | undefined;
  #bootRetries = 0;

  constructor(options: QemuDriverOptions) {
    this.#options = options;
    this.#logger = options.logger;
    this.#runRoot = resolve(options.runRoot);
    this.#notices = new ExitNotices(options.logger);
    this.#consoleTimer = setInterval(() => void this.#limitConsoles(), CONSOLE_CHECK_MS);
    this.#consoleTimer.unref();
  }

  get bootRetries(): number {
    return this.#bootRetries;
  }

  async describe(): Promise<VmmDescription> {
    const { qemuVersion, kvm } = await this.#probeOnce();
    const { accelerator, reason } = chooseAccelerator(this.#options.accelerator ?? 'auto', kvm);
    const { support } = await this.#cgroupTree();
    const limits = support.version === undefined ? ` VMs are not bounded on this host: ${support.reason}.` : '';
    return { vmm: 'qemu', version: qemuVersion, accelerator, reason: `${reason}${limits}` };
  }

  async start(spec: VmSpec, signal?: AbortSignal): Promise<VmHandle> {
    this.#booting.add(spec.runDir);
    try {
      await checkSpec(spec);
      const accelerator = await this.#accelerator();
      const watchdog = this.#options.bootWatchdog ?? DEFAULT_BOOT_WATCHDOG;
      for (let attempt = 0; attempt <= watchdog.retries; attempt++) {
        if (attempt > 0) {
          this.#bootRetries++;
          this.#logger.warn({ sandboxId: spec.sandboxId, attempt }, 'no sign of life from the guest; booting it again');
        }
        const vm = await this.#boot(spec, accelerator, watchdog.firstSignMs * 2 ** attempt, signal);
        if (vm !== undefined) {
          this.#vms.set(vmKey(vm.handle), vm);
          return vm.handle;
        }
      }
      throw new NestboxError('boot_timeout', await describeSilence(spec, watchdog));
    } catch (error) {
      throw toDriverError(error, 'The VM could not be started.', signal);
    } finally {
      this.#booting.delete(spec.runDir);
    }
  }

  /** One boot. Undefined when the guest showed no sign of life in time; nothing is left of it then. */
  async #boot(
    spec: VmSpec,
    accelerator: QemuAccelerator,
    firstSignMs: number,
    signal: AbortSignal | undefined,
  ): Promise<QemuVm | undefined> {
    signal?.throwIfAborted();
    await using undo = new AsyncDisposableStack();
    const files = qemuRunFiles(spec.runDir);
    await removeRunFiles(spec.runDir);
    undo.defer(() => removeRunFiles(spec.runDir));
    const consoleStart = await linkConsole(spec.consolePath, files.console);
    const cgroup = await (await this.#cgroupTree()).create(spec.sandboxId, vmLimits(spec, accelerator));
    undo.defer(async () => cgroup?.remove());
    const { identity, exited } = await launchDetached({
      command: [this.#options.qemuBinary ?? QEMU_BINARY, ...qemuArguments(spec, accelerator)],
      cgroupProcsFiles: cgroup?.procsFiles ?? [],
      netnsName: spec.network.netnsName,
      logPath: files.log,
      // Nothing of our environment: it may hold secrets, and QEMU needs none of it.
      env: { PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin' },
    });
    undo.defer(() => endProcess(identity, { graceMs: 0 }));
    const handle: VmHandle = {
      sandboxId: spec.sandboxId,
      vmm: 'qemu',
      process: identity,
      runDir: spec.runDir,
      cgroup: cgroup?.path,
    };
    const vm = new QemuVm(handle, cgroup, exited);
    undo.defer(() => vm.close());

    const gone = new AbortController();
    void exited.then(() => gone.abort());
    const silence = AbortSignal.timeout(firstSignMs);
    try {
      const ends = signal === undefined ? [gone.signal, silence] : [gone.signal, silence, signal];
      await waitForText(spec.consolePath, BOOT_SIGN_OF_LIFE, consoleStart, AbortSignal.any(ends));
      await vm.connect();
    } catch (error) {
      signal?.throwIfAborted();
      if (!vm.isAlive) throw await vmDied(vm, spec.consolePath, consoleStart);
      if (silence.aborted) return undefined;
      throw unreachable(error);
    }
    undo.move();
    return vm;
  }

  async status(handle: VmHandle): Promise<VmStatus> {
    const vm = await this.#find(handle);
    if (vm === undefined || !vm.isAlive) return { state: 'gone', reason: await this.#explainEnd(handle) };
    try {
      return await vm.queryStatus();
    } catch (error) {
      if (await vm.isGoneSoon()) return { state: 'gone', reason: await vm.explainEnd() };
      throw unreachable(error);
    }
  }

  pause(handle: VmHandle, signal?: AbortSignal): Promise<void> {
    return this.#setRunning(handle, false, signal);
  }

  resume(handle: VmHandle, signal?: AbortSignal): Promise<void> {
    return this.#setRunning(handle, true, signal);
  }

  async #setRunning(handle: VmHandle, running: boolean, signal: AbortSignal | undefined): Promise<void> {
    const vm = await this.#find(handle);
    if (vm === undefined || !vm.isAlive) throw new NestboxError('vm_died', await this.#explainEnd(handle));
    try {
      signal?.throwIfAborted();
      await vm.setRunning(running, signal);
    } catch (error) {
      if (signal?.aborted) throw toDriverError(error, '', signal);
      if (await vm.isGoneSoon()) throw new NestboxError('vm_died', await vm.explainEnd(), { cause: error });
      throw unreachable(error);
    }
  }

  async destroy(handle: VmHandle): Promise<void> {
    const vm = await this.#find(handle);
    if (vm !== undefined) {
      await endProcess(handle.process, { graceMs: this.#options.stopGraceMs ?? STOP_GRACE_MS });
      await vm.explainEnd();
      await vm.close();
    }
    this.#vms.delete(vmKey(handle));
    // A handle that is damaged may name a folder of somebody else.
    if (!this.#isRunDir(handle.runDir)) return;
    await removeRunFiles(handle.runDir);
    await (await this.#cgroupTree()).find(handle.cgroup, handle.sandboxId)?.remove();
  }

  onExit(handle: VmHandle, listener: (reason: string) => void): () => void {
    const wait = async (signal: AbortSignal) => {
      const vm = await this.#find(handle);
      return vm === undefined ? this.#explainEnd(handle) : vm.waitUntilGone(signal);
    };
    return this.#notices.add(vmKey(handle), wait, listener);
  }

  async removeStrays(known: readonly VmHandle[]): Promise<number[]> {
    const spared = new Set(this.#booting);
    const sparedPids = new Set<number>();
    for (const handle of [...known, ...this.#ownHandles()]) {
      spared.add(handle.runDir);
      if (isProcessAlive(handle.process)) sparedPids.add(handle.process.pid);
    }
    const strays = await findProcesses('cmdline', (words) => {
      const runDir = runDirOfCommandLine(words);
      return runDir !== undefined && this.#isRunDir(runDir) && !this.#booting.has(runDir);
    });
    const cgroups = await (await this.#cgroupTree()).list();
    const left = cgroups.filter((cgroup) => !spared.has(join(this.#runRoot, cgroup.sandboxId)));
    const targets = new Map<number, ProcessIdentity>();
    for (const { identity } of strays) targets.set(identity.pid, identity);
    for (const cgroup of left) {
      for (const pid of await cgroup.pids()) {
        const identity = readProcessIdentity(pid);
        if (identity !== undefined) targets.set(pid, identity);
      }
    }
    for (const pid of sparedPids) targets.delete(pid);
    await Promise.all([...targets.values()].map((identity) => endProcess(identity, { graceMs: 0 })));
    for (const cgroup of left) await cgroup.remove();
    for (const name of await readdir(this.#runRoot).catch(() => [])) {
      const runDir = join(this.#runRoot, name);
      if (!spared.has(runDir)) await removeRunFiles(runDir);
    }
    return [...targets.keys()];
  }

  async close(): Promise<void> {
    clearInterval(this.#consoleTimer);
    this.#notices.close();
    await Promise.all([...this.#vms.values()].map((vm) => vm.close()));
    this.#vms.clear();
  }

  #ownHandles(): VmHandle[] {
    return [...this.#vms.values()].filter((vm) => vm.isOwn).map((vm) => vm.handle);
  }

  /**
   * The VM of a handle: one that is known already, or one whose process is alive and, by its command line, is the QEMU of
   * that run folder. So neither a pid used again nor a damaged handle ever leads to somebody else's process.
   */
  async #find(handle: VmHandle): Promise<QemuVm | undefined> {
    const known = this.#vms.get(vmKey(handle));
    if (known !== undefined) return known;
    if (!this.#isRunDir(handle.runDir) || !isProcessAlive(handle.process)) return undefined;
    const words = await readProcessWords(handle.process.pid, 'cmdline');
    if (words === undefined || runDirOfCommandLine(words) !== handle.runDir) return undefined;
    const cgroup = (await this.#cgroupTree()).find(handle.cgroup, handle.sandboxId);
    const vm = this.#vms.get(vmKey(handle)) ?? new QemuVm(handle, cgroup, undefined);
    this.#vms.set(vmKey(handle), vm);
    return vm;
  }

  async #explainEnd(handle: VmHandle): Promise<string> {
    const known = this.#vms.get(vmKey(handle));
    if (known !== undefined) return known.explainEnd();
    if (!this.#isRunDir(handle.runDir)) return 'The VM manager is no longer running.';
    const cgroup = (await this.#cgroupTree()).find(handle.cgroup, handle.sandboxId);
    return new QemuVm(handle, cgroup, undefined).explainEnd();
  }

  #isRunDir(path: string): boolean {
    return path === resolve(path) && path.startsWith(this.#runRoot + sep);
  }

  #probeOnce(): Promise<ProbeResult> {
    const { cacheDir, qemuBinary, accelerator } = this.#options;
    this.#probe ??= probe({ cacheDir, qemuBinary, askKvm: accelerator !== 'tcg' }).catch((error: unknown) => {
      this.#probe = undefined;
      throw error;
    });
    return this.#probe;
  }

  #cgroupTree(): Promise<CgroupTree> {
    this.#cgroups ??= CgroupTree.open(this.#options.instance);
    return this.#cgroups;
  }

  async #accelerator(): Promise<QemuAccelerator> {
    const { kvm } = await this.#probeOnce();
    const wanted = this.#options.accelerator ?? 'auto';
    if (wanted === 'kvm' && !kvm.works) throw new NestboxError('not_set_up', `KVM was asked for, but: ${kvm.reason}`);
    if (wanted !== 'tcg' && kvm.works) return { kind: 'kvm', cpuModel: kvm.cpuModel };
    return { kind: 'tcg', translationBufferMib: this.#options.translationBufferMib ?? TRANSLATION_BUFFER_MIB };
  }

  async #limitConsoles(): Promise<void> {
    for (const { handle, isAlive } of this.#vms.values()) {
      if (!isAlive) continue;
      try {
        await limitConsoleLog(qemuRunFiles(handle.runDir).console);
      } catch (error) {
        this.#logger.warn({ err: error, sandboxId: handle.sandboxId }, 'the console log could not be shortened');
      }
    }
  }
}

/** What `doctor` says, and what new VMs use. */
export function chooseAccelerator(
  wanted: 'auto' | 'kvm' | 'tcg',
  kvm: KvmAnswer,
): { accelerator: 'kvm' | 'tcg'; reason: string } {
  if (wanted === 'tcg') return { accelerator: 'tcg', reason: 'Software emulation (TCG) was asked for.' };
  if (wanted === 'kvm')
    return { accelerator: 'kvm', reason: kvm.works ? kvm.reason : `KVM was asked for, but: ${kvm.reason}` };
  if (kvm.works) return { accelerator: 'kvm', reason: kvm.reason };
  return { accelerator: 'tcg', reason: `Software emulation (TCG), since KVM cannot be used: ${kvm.reason}` };
}

export function vmLimits(spec: Pick<VmSpec, 'vcpuCount' | 'memoryMib'>, accelerator: QemuAccelerator): CgroupLimits {
  const translationMib = accelerator.kind === 'tcg' ? accelerator.translationBufferMib : 0;
  return {
    memoryBytes: (spec.memoryMib + translationMib + QEMU_OVERHEAD_MIB) * 1024 * 1024,
    // QEMU's own threads share the vCPUs' time: what the template says is all that the VM gets of the host.
    cpuCount: spec.vcpuCount,
    pidCount: spec.vcpuCount + EXTRA_THREADS,
  };
}

function vmKey(handle: VmHandle): string {
  return `${handle.sandboxId} ${handle.process.pid} ${handle.process.startTicks}`;
}

async function checkSpec(spec: VmSpec): Promise<void> {
  const { qmpSocket } = qemuRunFiles(spec.runDir);
  if (Buffer.byteLength(qmpSocket) > MAX_SOCKET_PATH_BYTES)
    throw new NestboxError(
      'not_set_up',
      `The path ${qmpSocket} is longer than the ${MAX_SOCKET_PATH_BYTES} bytes a unix socket may have.`,
    );
  for (const path of [spec.kernelPath, spec.initrdPath, ...spec.disks.map((disk) => disk.path)]) {
    await access(path, constants.R_OK).catch((cause: unknown) => {
      throw new NestboxError('not_set_up', `${path} is missing or cannot be read. Run \`nestbox setup\`.`, { cause });
    });
  }
}

/** Makes the console log, if it is new, and a link to it in the run folder. Returns where this boot's output begins. */
async function linkConsole(consolePath: string, link: string): Promise<number> {
  await using file = await open(consolePath, 'a', 0o600);
  await symlink(consolePath, link);
  return (await file.stat()).size;
}

async function removeRunFiles(runDir: string): Promise<void> {
  for (const path of Object.values(qemuRunFiles(runDir))) {
    await rm(path, { force: true }).catch((error: unknown) => {
      // The "run folder" is a file.
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOTDIR')) throw error;
    });
  }
}

async function vmDied(vm: QemuVm, consolePath: string, consoleStart: number): Promise<NestboxError> {
  const reason = await vm.waitUntilGone(AbortSignal.timeout(1000));
  const code = /No space left on device/.test(reason) ? 'host_disk_full' : 'vm_died';
  return new NestboxError(code, `${reason}${await consoleTail(consolePath, consoleStart)}`);
}

async function describeSilence(spec: VmSpec, watchdog: BootWatchdog): Promise<string> {
  const boots = watchdog.retries + 1;
  return `The guest's kernel gave no sign of life in ${boots} ${boots === 1 ? 'boot' : 'boots'}.${await consoleTail(spec.consolePath, 0)}`;
}

async function consoleTail(consolePath: string, fromOffset: number): Promise<string> {
  const text = await readFileTail(consolePath, 4096, fromOffset);
  const lines = lastLines(text, 5);
  return lines === '' ? ' The console is empty.' : ` The console's last lines:\n${lines}`;
}

function unreachable(cause: unknown): NestboxError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new NestboxError('sandbox_unreachable', `The VM is there, but its manager does not answer: ${why}`, { cause });
}
