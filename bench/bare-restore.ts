import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { GUEST_AGENT_PORT } from '@nestbox/contract';
import { machineFiles } from '@nestbox/host-agent/storage';
import { syncFile } from '@nestbox/kit';
import { z } from 'zod';
import { applyPageFile, writePageFile } from '../packages/host-agent/src/memory/page-file.ts';
import { ProcessMemory } from '../packages/host-agent/src/memory/process-memory.ts';
import type { NetworkSlot } from '../packages/host-agent/src/network/network.ts';
import { TCG_PROCESSOR } from '../packages/host-agent/src/vmm/qemu/command-line.ts';
import { QmpClient } from '../packages/host-agent/src/vmm/qemu/qmp-client.ts';

/** What the floor restores: a template's snapshot, and a network that is there already. */
export interface BareSnapshot {
  /** Machine folder of the snapshot. */
  readonly folder: string;
  /** Top layer of the disk. */
  readonly layer: string;
  readonly vcpuCount: number;
  readonly memoryMib: number;
  readonly accelerator: 'kvm' | 'tcg' | 'none';
  readonly slot: NetworkSlot;
}

/** A state that `BareVm.save` has written. */
export interface BareState {
  readonly devicesPath: string;
  readonly pagesPath: string | undefined;
}

export interface BareVm extends AsyncDisposable {
  /** Stop, device state, changed pages: into files of a folder that goes with the VM. */
  save(): Promise<BareState>;
}

const QMP_DEADLINE_MS = 30_000;
const POLL_MS = 1;
const ASK_TIMEOUT_MS = 1000;

const queryStatus = z.object({ status: z.string() });

/**
 * The least that restores a VM on stock QEMU: one process, no limits, no jail, a throw-away overlay of QEMU's own. Resolves
 * when its guest agent has answered `/health`.
 */
export async function bareRestore(snapshot: BareSnapshot, state?: BareState): Promise<BareVm> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-bare-'));
  const socket = join(folder, 'qmp');
  const files = machineFiles(snapshot.folder);
  await using devices = await open(state?.devicesPath ?? files.devices, 'r');
  const qemu = spawn(
    'nsenter',
    [`--net=/run/netns/${snapshot.slot.netnsName}`, '--', 'qemu-system-x86_64', ...bareArguments(snapshot, socket)],
    { stdio: ['ignore', 'ignore', 'inherit', devices.fd] },
  );
  const ended = once(qemu, 'exit');
  const end = async () => {
    qemu.kill('SIGKILL');
    await ended;
    await rm(folder, { recursive: true, force: true });
  };
  try {
    while (!existsSync(socket)) await sleep(POLL_MS);
    const qmp = await connectQmp(socket);
    const ask = (command: string, args?: Record<string, unknown>) =>
      qmp.execute(command, args, { deadlineMs: QMP_DEADLINE_MS });
    if (state?.pagesPath !== undefined) {
      using memory = ProcessMemory.open(qemu.pid ?? 0, files.memory, 'r+');
      await applyPageFile(state.pagesPath, memory);
    }
    await ask('migrate-incoming', { uri: 'fd:3' });
    while (queryStatus.parse(await ask('query-status')).status === 'inmigrate') await sleep(POLL_MS);
    await ask('cont');
    await firstHealth(snapshot.slot.hostReachableAddress);
    return {
      async save() {
        const saved = { devicesPath: join(folder, 'devices'), pagesPath: join(folder, 'pages') };
        await ask('stop');
        await ask('xen-save-devices-state', { filename: saved.devicesPath, live: false });
        using memory = ProcessMemory.open(qemu.pid ?? 0, files.memory, 'r');
        await writePageFile(saved.pagesPath, memory);
        return saved;
      },
      [Symbol.asyncDispose]: end,
    };
  } catch (error) {
    await end();
    throw error;
  }
}

/** The same machine as Nestbox's, or the state would not fit. */
function bareArguments(snapshot: BareSnapshot, socket: string): string[] {
  const { folder, layer, vcpuCount, memoryMib, slot } = snapshot;
  const files = machineFiles(folder);
  const kvm = snapshot.accelerator === 'kvm';
  const machine = kvm
    ? 'microvm,usb=off,graphics=off'
    : 'q35,sata=off,smbus=off,usb=off,vmport=off,graphics=off,i8042=off';
  const bus = kvm ? 'device' : 'pci';
  const modern = kvm ? '' : ',disable-legacy=on';
  return [
    ...['-machine', `${machine},memory-backend=mem,suppress-vmdesc=on`],
    ...(kvm ? ['-accel', 'kvm', '-cpu', 'host'] : ['-accel', 'tcg,tb-size=128', '-cpu', TCG_PROCESSOR]),
    ...['-smp', `cpus=${vcpuCount},sockets=1,cores=${vcpuCount},threads=1`, '-m', `${memoryMib}M`],
    '-object',
    `memory-backend-file,id=mem,size=${memoryMib}M,mem-path=${files.memory},share=off`,
    ...['-global', 'migration.send-configuration=off', '-nodefaults', '-no-user-config', '-no-reboot'],
    ...['-display', 'none', '-serial', 'null', '-S', '-incoming', 'defer'],
    ...['-qmp', `unix:${socket},server=on,wait=off`],
    ...['-drive', `if=none,id=root,file=${files.layer(layer)},format=qcow2,snapshot=on`],
    ...['-device', `virtio-blk-${bus},id=vd0,drive=root${modern}`],
    ...['-drive', `if=none,id=agent,file=${files.agentDisk},format=raw,readonly=on`],
    ...['-device', `virtio-blk-${bus},id=vd1,drive=agent${modern}`],
    ...['-netdev', `tap,id=net,ifname=${slot.tapName},script=no,downscript=no`],
    '-device',
    `virtio-net-${bus},id=nic,netdev=net,mac=${slot.guestMac}${modern}${kvm ? '' : ',romfile='}`,
  ];
}

/** What makes a saved state outlast a loss of power: the files and the names of both. */
export async function syncState({ devicesPath, pagesPath }: BareState): Promise<void> {
  await Promise.all([devicesPath, ...(pagesPath === undefined ? [] : [pagesPath])].map(syncFile));
  await syncFile(dirname(devicesPath));
}

/** A name of the socket is there a moment before somebody listens. */
async function connectQmp(path: string): Promise<QmpClient> {
  const deadlineMs = performance.now() + QMP_DEADLINE_MS;
  for (;;) {
    try {
      return await QmpClient.connect(path, { deadlineMs: QMP_DEADLINE_MS });
    } catch (error) {
      if (performance.now() > deadlineMs) throw error;
      await sleep(POLL_MS);
    }
  }
}

/** Asks until it answers; a connection that is made while the guest begins waits in the TAP's queue. */
async function firstHealth(address: string): Promise<void> {
  for (;;) {
    const status = await new Promise<number | undefined>((resolve) => {
      const asked = get({ host: address, port: GUEST_AGENT_PORT, path: '/health', agent: false }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      asked.once('error', () => resolve(undefined));
      // A connection of a VM before it on the same network may be in the way; the next one is another.
      asked.setTimeout(ASK_TIMEOUT_MS, () => asked.destroy());
    });
    if (status === 204) return;
    await sleep(POLL_MS);
  }
}
