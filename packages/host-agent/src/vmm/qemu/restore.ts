import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import { z } from 'zod';
import { allSettled } from '../../all-settled.ts';
import { applyPageFile } from '../../memory/page-file.ts';
import { ProcessMemory } from '../../memory/process-memory.ts';
import type { VmMachine, VmState } from '../driver.ts';
import { vmmUnreachable } from '../errors.ts';
import { checkMachine } from './boot.ts';
import { DEVICES_DESCRIPTOR, restoreArguments } from './command-line.ts';
import { launchQemu, type QemuHost } from './launch-qemu.ts';
import type { QemuVm } from './qemu-vm.ts';

export interface QemuRestore extends QemuHost {
  readonly machine: VmMachine;
  readonly state: VmState;
}

/** Loading takes 5 to 40 ms on an idle machine. */
const LOAD_DEADLINE_MS = 30_000;
/** As long as its control socket is waited for. */
const MAPPED_DEADLINE_MS = 10_000;
const FIRST_POLL_MS = 1;
const LAST_POLL_MS = 20;
const EXPLAIN_DEADLINE_MS = 1000;

const queryStatus = z.object({ status: z.string() });

/**
 * Starts a QEMU with a saved state; its vCPUs stand still. Pages go in before the devices: no vCPU has run by then, and
 * devices that look into the guest's memory find it complete. After any error nothing is left of it.
 */
export async function restoreVm(restore: QemuRestore, signal?: AbortSignal): Promise<QemuVm> {
  const { machine, state, accelerator } = restore;
  signal?.throwIfAborted();
  await checkMachine(machine, [state.devicesPath, ...(state.pagesPath === undefined ? [] : [state.pagesPath])]);
  await using undo = new AsyncDisposableStack();
  const devices = await open(state.devicesPath, 'r');
  // Ours; QEMU has its own by then.
  await using _devices = devices;
  const { vm } = await launchQemu(
    restore,
    {
      machine,
      arguments: restoreArguments(machine, accelerator),
      consoleNote: '[nestbox: restore]',
      moreFiles: [],
      inheritedFile: devices.fd,
    },
    undo,
  );
  try {
    await allSettled([vm.connectSoon(signal), loadPages(vm, machine, state, signal)]);
    // QEMU does one after the other.
    await allSettled([
      // A guest that has come to another host would tell its new neighbours where it is, by a hundred of steps; here nobody needs to learn it.
      vm.execute('migrate-set-parameters', { 'announce-rounds': 0 }, LOAD_DEADLINE_MS, signal),
      vm.execute('migrate-incoming', { uri: `fd:${DEVICES_DESCRIPTOR}` }, LOAD_DEADLINE_MS, signal),
    ]);
    await waitUntilLoaded(vm, signal);
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof NestboxError) throw error;
    if (!(await vm.isGoneSoon())) throw vmmUnreachable(error);
    const reason = await vm.waitUntilGone(AbortSignal.timeout(EXPLAIN_DEADLINE_MS));
    const refused = reason.includes('load of migration failed');
    throw new NestboxError(
      refused ? 'snapshot_damaged' : 'vm_died',
      refused ? `QEMU refuses the devices' state ${state.devicesPath}: ${reason}` : reason,
      { cause: error },
    );
  }
  signal?.throwIfAborted();
  undo.move();
  return vm;
}

/**
 * Needs nothing of QEMU but its mapping of the memory, which is there long before it answers. Nothing of it writes into that before the devices
 * are loaded: a machine that waits for a state does not put its ROMs there (rom_reset in hw/core/loader.c).
 */
async function loadPages(
  vm: QemuVm,
  { memoryPath }: VmMachine,
  { pagesPath }: VmState,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (pagesPath === undefined) return;
  using memory = await findMemory(vm, memoryPath, signal);
  if (memory !== undefined) await applyPageFile(pagesPath, memory, signal);
}

/** Undefined when QEMU ends before it has any: whoever connects to it says why. */
async function findMemory(
  vm: QemuVm,
  memoryPath: string,
  signal: AbortSignal | undefined,
): Promise<ProcessMemory | undefined> {
  const endsAt = performance.now() + MAPPED_DEADLINE_MS;
  while (performance.now() < endsAt) {
    signal?.throwIfAborted();
    if (!vm.isAlive) return undefined;
    const memory = ProcessMemory.find(vm.handle.process.pid, memoryPath, 'r+');
    if (memory !== undefined) return memory;
    await sleep(FIRST_POLL_MS);
  }
  return ProcessMemory.open(vm.handle.process.pid, memoryPath, 'r+');
}

async function waitUntilLoaded(vm: QemuVm, signal: AbortSignal | undefined): Promise<void> {
  const endsAt = performance.now() + LOAD_DEADLINE_MS;
  for (let pollMs = FIRST_POLL_MS; ; pollMs = Math.min(LAST_POLL_MS, pollMs * 2)) {
    const { status } = queryStatus.parse(await vm.execute('query-status', {}, LOAD_DEADLINE_MS, signal));
    if (status !== 'inmigrate') return;
    if (performance.now() > endsAt)
      throw new NestboxError(
        'sandbox_unreachable',
        `QEMU did not load the devices' state within ${LOAD_DEADLINE_MS} ms.`,
      );
    await sleep(pollMs);
  }
}
