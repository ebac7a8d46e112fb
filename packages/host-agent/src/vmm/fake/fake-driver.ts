import { mkdir, open } from 'node:fs/promises';
import { resolve } from 'node:path';
import { NestboxError } from '@nestbox/contract';
import { isProcessAlive, type Logger, type ProcessIdentity } from '@nestbox/kit';
import {
  type BootWatchdog,
  DEFAULT_BOOT_WATCHDOG,
  describeConsole,
  describeSilence,
  firstSignLimitMs,
  watchBoot,
} from '../boot-watchdog.ts';
import {
  BOOT_SIGN_OF_LIFE,
  type VmDriver,
  type VmFeatures,
  type VmHandle,
  type VmmDescription,
  type VmSpec,
  type VmStatus,
} from '../driver.ts';
import { endProcess, waitUntilGone } from '../end-process.ts';
import { toDriverError } from '../errors.ts';
import { ExitNotices } from '../exit-notices.ts';
import { explainExit } from '../exit-reason.ts';
import { handleKey, isRunDirBelow } from '../handle-identity.ts';
import { launchDetached, type ProcessExit } from '../launch.ts';
import { findProcesses, listDescendants, readProcessState, readProcessWords } from '../processes.ts';

/** A driver for tests. Each "VM" is a real process, so pids, signals, exits, adoption and strays are real as well. */
export interface FakeDriverOptions {
  readonly runRoot: string;
  readonly logger: Logger;
  /**
   * What runs as the VM, with its output in the console log. Default: a process that sleeps.
   * Its environment is PATH, HOME and what is given here.
   */
  readonly command?: (spec: VmSpec) => FakeVmCommand;
  readonly bootWatchdog?: BootWatchdog;
  readonly stopGraceMs?: number;
  /** Read at each call, so a test may change them as it goes. */
  readonly failures?: FakeFailures;
}

export interface FakeVmCommand {
  readonly command: readonly [string, ...string[]];
  readonly env?: Readonly<Record<string, string>>;
}

/** Things that go wrong on purpose. */
export interface FakeFailures {
  /** `start` fails before anything is begun. */
  startError?: NestboxError;
  /** So many boots show no sign of life. Counts down. */
  silentBoots?: number;
  /** The VMM ends during the boot, with exit code 1. */
  diesDuringBoot?: boolean;
  /** The VM is killed so long after `start` has returned. */
  diesAfterMs?: number;
  /** The VM does not heed SIGTERM, so that `destroy` has to wait out the grace. */
  ignoresSigterm?: boolean;
  /** `destroy` waits for this first. */
  destroyGate?: Promise<void>;
  /** `pause` and `resume` fail. */
  runStateError?: NestboxError;
}

const STOP_GRACE_MS = 2000;
const ADOPTED_POLL_MS = 50;
/** In the environment of the VM's process: by this it is found again. */
const MARK = 'NESTBOX_FAKE_VM';

const BOOT_SCRIPT = `
case "$1" in *ignore-term*) trap '' TERM ;; esac
case "$1" in *die*) echo "fake VMM: dies as it was told" >&2; exit 1 ;; esac
case "$1" in *silent*) ;; *) echo "${BOOT_SIGN_OF_LIFE}" ;; esac
shift
exec "$@"
`;

export function createFakeDriver(options: FakeDriverOptions): VmDriver {
  return new FakeDriver(options);
}

class FakeDriver implements VmDriver {
  readonly name = 'fake';
  readonly features: VmFeatures = { pause: true, snapshot: false, needsMemoryPreload: false };
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
        if (handle === undefined) continue;
        this.#own.set(handleKey(handle), handle);
        this.#planDeath(handle);
        return handle;
      }
      throw new NestboxError('boot_timeout', await describeSilence(spec, watchdog.retries + 1));
    } catch (error) {
      throw toDriverError(error, 'The VM could not be started.', signal);
    } finally {
      this.#booting.delete(spec.runDir);
    }
  }

  async #boot(spec: VmSpec, limitMs: number, signal: AbortSignal | undefined): Promise<VmHandle | undefined> {
    signal?.throwIfAborted();
    await using undo = new AsyncDisposableStack();
    const consoleStart = await prepareConsole(spec);
    const { command, env } = this.#options.command?.(spec) ?? { command: ['sleep', '1000000'] };
    const { identity, exited } = await launchDetached({
      command: ['/bin/sh', '-c', BOOT_SCRIPT, 'fake-vm', this.#bootMood(), ...command],
      cgroupProcsFiles: [],
      netnsName: undefined,
      logPath: spec.consolePath,
      env: { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '/', ...env, [MARK]: spec.runDir },
    });
    undo.defer(() => endProcess(identity, { graceMs: 0, group: true }));
    const outcome = await watchBoot({ consolePath: spec.consolePath, consoleStart, exited, limitMs }, signal);
    if (outcome === 'silent') return undefined;
    const handle: VmHandle = {
      sandboxId: spec.sandboxId,
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
    this.#exits.set(handleKey(handle), record);
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
    if (!(await this.#isOurs(handle))) return { state: 'gone', reason: this.#explainEnd(handle) };
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
    if (this.#options.failures?.runStateError !== undefined) throw this.#options.failures.runStateError;
    if (!(await this.#isOurs(handle))) throw new NestboxError('vm_died', this.#explainEnd(handle));
    process.kill(-handle.process.pid, running ? 'SIGCONT' : 'SIGSTOP');
    // The signal arrives a moment after kill(2) has returned.
    while (isProcessAlive(handle.process) && (readProcessState(handle.process.pid) === 'T') === running)
      await new Promise((done) => setImmediate(done));
  }

  async destroy(handle: VmHandle): Promise<void> {
    await this.#options.failures?.destroyGate;
    if (await this.#isOurs(handle)) await this.#end(handle.process);
    this.#own.delete(handleKey(handle));
    this.#exits.delete(handleKey(handle));
  }

  /** A VM takes everything inside along; processes of sessions of their own would stay. */
  async #end(vm: ProcessIdentity): Promise<void> {
    const inside = await listDescendants(vm.pid);
    if (isProcessAlive(vm)) process.kill(-vm.pid, 'SIGCONT');
    await endProcess(vm, { graceMs: this.#options.stopGraceMs ?? STOP_GRACE_MS, group: true });
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
    await Promise.all(ended.map(({ identity }) => endProcess(identity, { graceMs: 0 })));
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

async function prepareConsole(spec: VmSpec): Promise<number> {
  await mkdir(spec.runDir, { recursive: true });
  await using file = await open(spec.consolePath, 'a', 0o600);
  return (await file.stat()).size;
}
