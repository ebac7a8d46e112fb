import { access, constants, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { cpus, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { NestboxError } from '@nestbox/contract';
import { CommandError, runCommand, writeFileAtomic } from '@nestbox/kit';
import { z } from 'zod';
import { QEMU_BINARY, SECCOMP_POLICY } from './command-line.ts';
import { buildProbeGuest, PROBE_EXIT_CODE, PROBE_EXIT_PORT } from './probe-guest.ts';

/** Whether KVM runs guests here. `cpuModel` is what QEMU's `-cpu` wants. Reasons are sentences for users. */
export type KvmAnswer =
  | { readonly works: true; readonly cpuModel: string; readonly reason: string }
  | { readonly works: false; readonly reason: string };

export interface ProbeResult {
  readonly qemuVersion: string;
  readonly kvm: KvmAnswer;
}

/** A working KVM is done in a tenth of a second; a busy machine gets thirty times that. */
const PROBE_DEADLINE_MS = 3000;

/**
 * Tried in this order. Some nested hosts refuse to set the MSR of arch-capabilities (0x10a), and QEMU then aborts; without it
 * the guest only assumes more CPU flaws than there are.
 */
const CPU_MODELS = ['host', 'host,-arch-capabilities'] as const;

const answer = z.discriminatedUnion('works', [
  z.object({ works: z.literal(true), cpuModel: z.string(), reason: z.string() }),
  z.object({ works: z.literal(false), reason: z.string() }),
]);
const cacheFile = z.object({ key: z.string(), qemuVersion: z.string(), kvm: answer });

export interface ProbeOptions {
  readonly cacheDir: string;
  /** Default: qemu-system-x86_64, looked up in PATH. */
  readonly qemuBinary?: string | undefined;
  /** False: only the version is wanted, since KVM will not be used. */
  readonly askKvm: boolean;
  /** Default: /dev/kvm. */
  readonly kvmDevice?: string;
}

/**
 * Finds out what QEMU can do here. Boots the probe guest at most once for each kernel, QEMU, CPU and boot of the machine; the answer is
 * kept in `cacheDir`. A missing or closed KVM device is not remembered, since a user may mend it at any moment.
 * Throws not_set_up when there is no QEMU.
 */
export async function probe(options: ProbeOptions, signal?: AbortSignal): Promise<ProbeResult> {
  const binary = await findQemu(options.qemuBinary ?? QEMU_BINARY);
  const key = JSON.stringify({
    // Path, size and time stand for the version: telling it apart needs no process.
    qemu: [binary.path, binary.size, binary.modifiedMs],
    kernel: release(),
    cpu: cpus()[0]?.model ?? '',
    boot: (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim(),
  });
  const device = options.kvmDevice ?? '/dev/kvm';
  const closed = await whyKvmCannotBeOpened(device);
  const cachePath = join(options.cacheDir, 'qemu-probe.json');
  const cached = await readCache(cachePath);
  if (cached?.key === key) {
    const kvm: KvmAnswer = closed === undefined ? cached.kvm : { works: false, reason: closed };
    return { qemuVersion: cached.qemuVersion, kvm };
  }
  const qemuVersion = await askVersion(binary.path, signal);
  if (!options.askKvm) return { qemuVersion, kvm: { works: false, reason: 'KVM was not asked for.' } };
  if (closed !== undefined) return { qemuVersion, kvm: { works: false, reason: closed } };
  const kvm = await bootProbeGuests(binary.path, signal);
  await mkdir(options.cacheDir, { recursive: true });
  await writeFileAtomic(cachePath, JSON.stringify({ key, qemuVersion, kvm } satisfies z.infer<typeof cacheFile>));
  return { qemuVersion, kvm };
}

async function bootProbeGuests(binary: string, signal: AbortSignal | undefined): Promise<KvmAnswer> {
  let lastReason = '';
  for (const cpuModel of CPU_MODELS) {
    const startedAt = performance.now();
    const outcome = await runProbeGuest(binary, 'kvm', cpuModel, PROBE_DEADLINE_MS, signal);
    if (outcome.ran) {
      const tookMs = Math.round(performance.now() - startedAt);
      return { works: true, cpuModel, reason: `KVM runs guests here: a probe guest was done in ${tookMs} ms.` };
    }
    lastReason = outcome.reason;
    // Too slow is no matter of the CPU model.
    if (outcome.timedOut) break;
  }
  return { works: false, reason: `/dev/kvm can be opened, but ${lastReason}` };
}

export type ProbeOutcome =
  | { readonly ran: true }
  | { readonly ran: false; readonly timedOut: boolean; readonly reason: string };

/** Runs the probe guest once. Exported for tests, which run it under TCG. */
export async function runProbeGuest(
  binary: string,
  accelerator: 'kvm' | 'tcg',
  cpuModel: string,
  deadlineMs: number,
  signal?: AbortSignal,
): Promise<ProbeOutcome> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-probe-'));
  await using _ = { [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
  const firmware = join(folder, 'guest.bin');
  await writeFile(firmware, buildProbeGuest());
  const deadline = AbortSignal.timeout(deadlineMs);
  const args = [
    ...['-no-user-config', '-nodefaults', '-display', 'none', '-no-reboot', '-sandbox', SECCOMP_POLICY],
    ...['-machine', 'microvm', '-accel', accelerator, '-cpu', cpuModel, '-m', '8M', '-bios', firmware],
    ...['-device', `isa-debug-exit,iobase=${PROBE_EXIT_PORT},iosize=1`],
  ];
  const failure = await runCommand(binary, args, {
    signal: signal === undefined ? deadline : AbortSignal.any([deadline, signal]),
  }).then(
    () => undefined,
    (error: unknown) => error,
  );
  if (failure instanceof CommandError && failure.exitCode === PROBE_EXIT_CODE) return { ran: true };
  if (signal?.aborted) throw new NestboxError('deadline_exceeded', 'The probe was abandoned.', { cause: failure });
  if (deadline.aborted) {
    const reason = `a probe guest was not done after ${deadlineMs / 1000} s: it only emulates, as nested hosts do, or hangs.`;
    return { ran: false, timedOut: true, reason };
  }
  if (failure !== undefined && !(failure instanceof CommandError)) throw failure;
  const lastWords = failure?.stderr.trim().split('\n').at(-1) ?? '';
  return { ran: false, timedOut: false, reason: `a probe guest did not run. ${lastWords}`.trim() };
}

async function askVersion(binary: string, signal: AbortSignal | undefined): Promise<string> {
  const { stdout } = await runCommand(binary, ['--version'], signal === undefined ? {} : { signal });
  return /version (\d+\.\d+(?:\.\d+)?)/.exec(stdout)?.[1] ?? 'unknown';
}

async function whyKvmCannotBeOpened(device: string): Promise<string | undefined> {
  try {
    await access(device, constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT') return `There is no ${device}: this machine has no KVM, or its module is not loaded.`;
    return `${device} is there but this user may not open it (${String(code)}): run as root or join the group kvm.`;
  }
}

async function readCache(path: string): Promise<z.infer<typeof cacheFile> | undefined> {
  try {
    return cacheFile.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    // Missing, damaged or from another version: the probe runs again and writes it anew.
    return undefined;
  }
}

async function findQemu(binary: string): Promise<{ path: string; size: number; modifiedMs: number }> {
  const candidates = binary.includes('/')
    ? [binary]
    : (process.env.PATH ?? '/usr/bin:/bin').split(':').map((folder) => join(folder, binary));
  for (const path of candidates) {
    const found = await stat(path).catch(() => undefined);
    if (found?.isFile()) return { path, size: found.size, modifiedMs: found.mtimeMs };
  }
  throw new NestboxError('not_set_up', `${binary} is not installed. On Debian: apt-get install qemu-system-x86`);
}
