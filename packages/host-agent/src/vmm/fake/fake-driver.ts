import { mkdir, open, readFile, truncate, writeFile } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { NestboxError } from '@nestbox/contract';
import { isProcessAlive, type ProcessIdentity, runCommand } from '@nestbox/kit';
import {
  DEFAULT_BOOT_WATCHDOG,
  describeConsole,
  describeSilence,
  firstSignLimitMs,
  watchBoot,
} from '../boot-watchdog.ts';
import { waitForText } from '../console.ts';
import {
  BOOT_SIGN_OF_LIFE,
  type LayeringVmDriver,
  type SavedState,
  type VmFeatures,
  type VmHandle,
  type VmMachine,
  type VmmDescription,
  type VmSpec,
  type VmState,
  type VmStatus,
} from '../driver.ts';
import { endProcess, waitUntilGone } from '../end-process.ts';
import { toDriverError } from '../errors.ts';
import { ExitNotices } from '../exit-notices.ts';
import { explainExit } from '../exit-reason.ts';
import { handleKey, isRunDirBelow } from '../handle-identity.ts';
import { launchDetached, type ProcessExit } from '../launch.ts';
import { findProcesses, listDescendants, readProcessState, readProcessWords } from '../processes.ts';
import type { FakeDriverOptions } from './fake-options.ts';
import { fakeRunFiles, loadFakeState, removeRunFiles, saveFakeState } from './fake-state.ts';

const STOP_GRACE_MS = 2000;
const ADOPTED_POLL_MS = 50;
/** In the environment of the VM's process: by this it is found again. */
const MARK = 'NESTBOX_FAKE_VM';
const RESTORE_LIMIT_MS = 30_000;

const BOOT_SCRIPT = `
case "$1" in *ignore-term*) trap '' TERM ;; esac
case "$1" in *die*) echo "fake VMM: dies as it was told" >&2; exit 1 ;; esac
case "$1" in *silent*) ;; *) echo "${BOOT_SIGN_OF_LIFE}" ;; esac
shift
exec "$@"
`;

/** A driver for tests. Each "VM" is a real process, so pids, signals, exits, adoption and strays are real as well. */
export function createFakeDriver(options: FakeDriverOptions): LayeringVmDriver {
  return new FakeDriver(options);
}

class FakeDriver implements LayeringVmDriver {
  readonly name = 'fake';
  get features(): VmFeatures {
    return {
      pause: true,
      snapshot: true,
      needsSnapshotPrepare: false,
      needsMemoryPreload: false,
      diskFormats: ['raw', 'qcow2'],
      ...this.#options.features,
    };
  }
  readonly #options: FakeDriverOptions;
  readonly #runRoot: string;
  readonly #notices: ExitNotices;
  /** VMs that this driver started, and how they ended. */
  readonly #exits = new Map<string, { readonly exited: Promise<ProcessExit>; exit?: ProcessExit }>();
  readonly #own = new Map<string, VmHandle>();
  readonly #booting = new Set<string>();
  #bootRetries = 0;

  constructor(options: FakeDriverOptions) {
    this.#options = options;
    this.#runRoot = resolve(options.runRoot);
    this.#notices = new ExitNotices(options.logger);
  }

  get bootRetries(): number {
    return this.#bootRetries;
  }

  async describe(): Promise<VmmDescription> {
    return { vmm: 'fake', version: '0', accelerator: 'none', reason: 'Plain processes stand in for VMs in tests.' };
  }

  async start(spec: VmSpec, signal?: AbortSignal): Promise<VmHandle> {
    this.#booting.add(spec.runDir);
    try {
      if (this.#options.failures?.startError !== undefined) throw this.#options.failures.startError;
      const watchdog = this.#options.bootWatchdog ?? DEFAULT_BOOT_WATCHDOG;
      for (let attempt = 0; attempt <= watchdog.retries; attempt++) {
        if (attempt > 0) this.#bootRetries++;
        const handle = await this.#boot(spec, firstSignLimitMs(watchdog, attempt), signal);
        if (handle !== undefined) return handle;
      }
      throw new NestboxError('boot_timeout', await describeSilence(spec, watchdog.retries + 1));
    } catch (error) {
      throw toDriverError(error, 'The VM could not be started.', signal);
    } finally {
      this.#booting.delete(spec.runDir);
    }
  }

  /** Of the process nothing is saved; that a real VM goes on where it was is for the tests with real VMs. */
  async save(handle: VmHandle, memoryPath: string, state: VmState): Promise<SavedState> {
    await this.#options.failures?.saveGate;
    if (this.#options.failures?.saveError !== undefined) throw this.#options.failures.saveError;
    await this.#requireOurs(handle);
    try {
      const saved = await saveFakeState(handle, memoryPath, state, this.#options.failures?.changedPages ?? 1);
      if (this.#options.failures?.cutsPages && state.pagesPath !== undefined) await truncate(state.pagesPath, 100);
      return saved;
    } catch (error) {
      throw toDriverError(error, 'The state of the VM could not be saved.');
    }
  }

  async restore(machine: VmMachine, state: VmState, signal?: AbortSignal): Promise<VmHandle> {
    this.#booting.add(machine.runDir);
    try {
      if (this.#options.failures?.restoreError !== undefined) throw this.#options.failures.restoreError;
      const memory = await loadFakeState(machine, state);
      const handle = await this.#boot(machine, DEFAULT_BOOT_WATCHDOG.firstSignMs, signal, this.#options.restoredSign);
      if (handle === undefined) throw new NestboxError('vm_died', 'The fake VM gave no sign of life.');
      await writeFile(fakeRunFiles(machine.runDir).memory, memory);
      await this.#signal(handle, false);
      return handle;
    } catch (error) {
      throw toDriverError(error, 'The VM could not be restored.', signal);
    } finally {
      this.#booting.delete(machine.runDir);
    }
  }

  async snapshotMachine(): Promise<string> {
    return this.#options.failures?.machine ?? 'fake';
  }

  async switchDisk(handle: VmHandle, newPath: string): Promise<void> {
    if (this.#options.failures?.switchDiskError !== undefined) throw this.#options.failures.switchDiskError;
    await this.#requireOurs(handle);
    await writeFile(fakeRunFiles(handle.runDir).disk, newPath);
    if (this.#options.failures?.switchDiskUnheard !== undefined) throw this.#options.failures.switchDiskUnheard;
  }

  async rootDiskPath(handle: VmHandle): Promise<string> {
    await this.#requireOurs(handle);
    return readFile(fakeRunFiles(handle.runDir).disk, 'utf8');
  }

  /** A fake guest writes to no disk, so what QEMU does to one in use can be done from outside. */
  async flattenDisk(handle: VmHandle, basePath: string, signal?: AbortSignal): Promise<void> {
    await this.#options.failures?.flattenGate;
    if (signal?.aborted && this.#options.failures?.flattenIsNearlyDone !== true)
      throw toDriverError(signal.reason, '', signal);
    const top = await this.rootDiskPath(handle);
    await runCommand('qemu-img', ['rebase', '-q', '-f', 'qcow2', '-F', 'raw', '-b', basename(basePath), top]);
  }

  async #requireOurs(handle: VmHandle): Promise<void> {
    if (!(await this.#isOurs(handle))) throw new NestboxError('vm_died', this.#explainEnd(handle));
  }

  async #boot(
    spec: VmMachine,
    limitMs: number,
    signal: AbortSignal | undefined,
    restoredSign?: string,
  ): Promise<VmHandle | undefined> {
    signal?.throwIfAborted();
    await using undo = new AsyncDisposableStack();
    const consoleStart = await prepareConsole(spec);
    const { command, env } = this.#options.command?.(spec) ?? { command: ['sleep', '1000000'] };
    const { identity, exited } = await launchDetached({
      command: ['/bin/sh', '-c', BOOT_SCRIPT, 'fake-vm', this.#bootMood(), ...command],
      cgroup: undefined,
      netnsName: undefined,
      jail: undefined,
      logPath: spec.consolePath,
      env: { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '/', ...env, [MARK]: spec.runDir },
    });
    undo.defer(() => endProcess(identity, { graceMs: 0, group: true }));
    const outcome = await watchBoot({ consolePath: spec.consolePath, consoleStart, exited, limitMs }, signal);
    if (outcome === 'silent') return undefined;
    const handle: VmHandle = {
      vmId: spec.vmId,
      vmm: 'fake',
      process: identity,
      runDir: spec.runDir,
      cgroup: undefined,
    };
    const record: { readonly exited: Promise<ProcessExit>; exit?: ProcessExit } = { exited };
    void exited.then((exit) => {
      record.exit = exit;
    });
    if (outcome === 'gone') {
      const tail = await describeConsole(spec.consolePath, consoleStart);
      throw new NestboxError('vm_died', `The fake VM ended while it booted. ${tail}`);
    }
    if (restoredSign !== undefined) await waitForSign(spec.consolePath, restoredSign, consoleStart, exited, signal);
    const { disk, memory } = fakeRunFiles(spec.runDir);
    await writeFile(disk, spec.disks[0]?.path ?? '');
    await writeFile(memory, '');
    this.#exits.set(handleKey(handle), record);
    this.#own.set(handleKey(handle), handle);
    this.#planDeath(handle);
    undo.move();
    return handle;
  }

  /** What the boot script shall do, as words. */
  #bootMood(): string {
    const failures = this.#options.failures;
    const words = ['mood'];
    if (failures?.ignoresSigterm) words.push('ignore-term');
    if (failures?.diesDuringBoot) words.push('die');
    if (failures !== undefined && (failures.silentBoots ?? 0) > 0) {
      failures.silentBoots = (failures.silentBoots ?? 0) - 1;
      words.push('silent');
    }
    return words.join(' ');
  }

  #planDeath(handle: VmHandle): void {
    const afterMs = this.#options.failures?.diesAfterMs;
    if (afterMs === undefined) return;
    const kill = () =>
      endProcess(handle.process, { graceMs: 0, group: true }).catch((error: unknown) =>
        this.#options.logger.error({ err: error }, 'a planned death failed'),
      );
    setTimeout(kill, afterMs).unref();
  }

  async status(handle: VmHandle): Promise<VmStatus> {
    if (this.#options.failures?.statusError !== undefined) throw this.#options.failures.statusError;
    if (!(await this.#isOurs(handle))) return { state: 'gone', reason: this.#explainEnd(handle) };
    const stall = this.#options.failures?.stall;
    if (stall !== undefined) return { state: 'stalled', reason: stall };
    return { state: readProcessState(handle.process.pid) === 'T' ? 'paused' : 'running' };
  }

  pause(handle: VmHandle, signal?: AbortSignal): Promise<void> {
    return this.#setRunning(handle, false, signal);
  }

  resume(handle: VmHandle, signal?: AbortSignal): Promise<void> {
    return this.#setRunning(handle, true, signal);
  }

  async #setRunning(handle: VmHandle, running: boolean, signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted) throw toDriverError(signal.reason, '', signal);
    if (running) await this.#options.failures?.resumeGate;
    const failure =
      this.#options.failures?.runStateError ?? (running ? this.#options.failures?.resumeError : undefined);
    if (failure !== undefined) throw failure;
    await this.#requireOurs(handle);
    await this.#signal(handle, running);
  }

  async #signal(handle: VmHandle, running: boolean): Promise<void> {
    process.kill(-handle.process.pid, running ? 'SIGCONT' : 'SIGSTOP');
    // The signal arrives a moment after kill(2) has returned.
    while (isProcessAlive(handle.process) && (readProcessState(handle.process.pid) === 'T') === running)
      await new Promise((done) => setImmediate(done));
  }

  async destroy(handle: VmHandle, { graceful } = { graceful: true }): Promise<void> {
    await this.#options.failures?.destroyGate;
    if (await this.#isOurs(handle)) await this.#end(handle.process, graceful);
    this.#own.delete(handleKey(handle));
    this.#exits.delete(handleKey(handle));
    if (isRunDirBelow(this.#runRoot, handle.runDir)) await removeRunFiles(handle.runDir);
  }

  /** A VM takes everything inside along; processes of sessions of their own would stay. */
  async #end(vm: ProcessIdentity, graceful: boolean): Promise<void> {
    const inside = await listDescendants(vm.pid);
    // A stopped process takes no SIGTERM.
    if (graceful && isProcessAlive(vm)) process.kill(-vm.pid, 'SIGCONT');
    await endProcess(vm, { graceMs: graceful ? (this.#options.stopGraceMs ?? STOP_GRACE_MS) : 0, group: true });
    await Promise.all(inside.map((process) => endProcess(process, { graceMs: 0 })));
  }

  onExit(handle: VmHandle, listener: (reason: string) => void): () => void {
    const wait = async (signal: AbortSignal) => {
      const own = this.#exits.get(handleKey(handle));
      if (own !== undefined) await own.exited;
      else while (!signal.aborted && (await this.#isOurs(handle))) await waitUntilGone(handle.process, ADOPTED_POLL_MS);
      signal.throwIfAborted();
      return explainExit({ exit: own?.exit, shutdownCause: undefined, outOfMemory: false, lastWords: '' });
    };
    return this.#notices.add(handleKey(handle), wait, listener);
  }

  async removeStrays(known: readonly VmHandle[]): Promise<number[]> {
    const spared = new Set([...known, ...this.#own.values()].map((handle) => handle.process.pid));
    const strays = await findProcesses('environ', (words) => {
      const runDir = markedRunDir(words);
      return runDir !== undefined && isRunDirBelow(this.#runRoot, runDir) && !this.#booting.has(runDir);
    });
    // What runs inside a known VM carries the mark as well.
    for (const pid of [...spared]) for (const inside of await listDescendants(pid)) spared.add(inside.pid);
    const ended = strays.filter(({ identity }) => !spared.has(identity.pid));
    await Promise.all(
      ended.map(async ({ identity, words }) => {
        await endProcess(identity, { graceMs: 0 });
        const runDir = markedRunDir(words);
        if (runDir !== undefined) await removeRunFiles(runDir);
      }),
    );
    return ended.map(({ identity }) => identity.pid);
  }

  async close(): Promise<void> {
    this.#notices.close();
    this.#own.clear();
  }

  async #isOurs(handle: VmHandle): Promise<boolean> {
    if (!isRunDirBelow(this.#runRoot, handle.runDir) || !isProcessAlive(handle.process)) return false;
    if (this.#own.has(handleKey(handle))) return true;
    const words = await readProcessWords(handle.process.pid, 'environ');
    return words !== undefined && markedRunDir(words) === handle.runDir;
  }

  #explainEnd(handle: VmHandle): string {
    const exit = this.#exits.get(handleKey(handle))?.exit;
    return explainExit({ exit, shutdownCause: undefined, outOfMemory: false, lastWords: '' });
  }
}

function markedRunDir(environment: readonly string[]): string | undefined {
  return environment.find((word) => word.startsWith(`${MARK}=`))?.slice(MARK.length + 1);
}

/** Rejects when the process ends first. */
async function waitForSign(
  consolePath: string,
  sign: string,
  consoleStart: number,
  exited: Promise<ProcessExit>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const gone = new AbortController();
  void exited.then(() => gone.abort(new NestboxError('vm_died', 'The fake VM ended while it was restored.')));
  const limits = [gone.signal, AbortSignal.timeout(RESTORE_LIMIT_MS), ...(signal === undefined ? [] : [signal])];
  await waitForText(consolePath, sign, consoleStart, AbortSignal.any(limits));
}

async function prepareConsole(spec: VmMachine): Promise<number> {
  await mkdir(spec.runDir, { recursive: true });
  await using file = await open(spec.consolePath, 'a', 0o600);
  return (await file.stat()).size;
}
