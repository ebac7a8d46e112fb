import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { GUEST_AGENT_PORT, GUEST_NETWORK } from '@nestbox/contract';
import { runCommand } from '@nestbox/kit';
import { z } from 'zod';
import { freePort } from '../../../../../test/support/free-port.ts';
import { createGuestClient, type GuestClient } from '../guest-client.ts';

export interface RestorableVmOptions {
  readonly kernelPath: string;
  readonly initrdPath: string;
  readonly agentDiskPath: string;
  readonly rootfsPath: string;
  /** For disks, memory and state; every VM of the test shares it. */
  readonly folder: string;
}

/** A running VM and the host's way to the agent in it. */
export interface RestorableVm {
  readonly guest: GuestClient;
  /** Stops the VM and copies it. It is gone then, as its disk and memory are the copy's. */
  snapshot(): Promise<VmSnapshot>;
}

export interface VmSnapshot {
  /** Another VM that goes on where the copied one was stopped. Any number of times. */
  restore(): Promise<RestorableVm>;
}

const MEMORY_MIB = 512;
const QMP_TIMEOUT_MS = 120_000;
const MACHINE =
  'q35,memory-backend=mem,suppress-vmdesc=on,sata=off,smbus=off,usb=off,vmport=off,graphics=off,i8042=off';

/**
 * Boots a VM with a plain QEMU command line, emulated, which can be copied and restored (qemu-snapshots.md): no part of the
 * product but the images and the client. Its network is QEMU's own, and the host's requests come from the gateway. All
 * VMs are ended with the test.
 */
export async function bootRestorableVm(t: TestContext, options: RestorableVmOptions): Promise<RestorableVm> {
  const { folder, rootfsPath, kernelPath, initrdPath } = options;
  const disk = join(folder, 'base.qcow2');
  const memory = join(folder, 'memory');
  await makeOverlay(rootfsPath, 'raw', disk);
  const boot = ['-kernel', kernelPath, '-initrd', initrdPath, '-append', 'console=ttyS0 quiet panic=1 reboot=t'];
  const { qemu, monitor, guest } = await startQemu(t, options, {
    name: 'base',
    disk,
    memory,
    isShared: true,
    more: boot,
  });
  return {
    guest,
    async snapshot() {
      await monitor.run('stop');
      await monitor.ignoreSharedMemory();
      await monitor.run('migrate', { uri: `exec:cat >${join(folder, 'state')}` });
      await monitor.waitForStatus('postmigrate');
      qemu.kill('SIGKILL');
      await once(qemu, 'close');
      guest.close();
      let count = 0;
      return {
        async restore() {
          count += 1;
          return restoreVm(t, options, { name: `restored-${count}`, disk, memory });
        },
      };
    },
  };
}

async function restoreVm(
  t: TestContext,
  options: RestorableVmOptions,
  { name, disk, memory }: { readonly name: string; readonly disk: string; readonly memory: string },
): Promise<RestorableVm> {
  const { folder } = options;
  const overlay = join(folder, `${name}.qcow2`);
  await makeOverlay(disk, 'qcow2', overlay);
  const more = ['-incoming', 'defer'];
  const { monitor, guest } = await startQemu(t, options, { name, disk: overlay, memory, isShared: false, more });
  await monitor.ignoreSharedMemory();
  await monitor.run('migrate-incoming', { uri: `exec:cat ${join(folder, 'state')}` });
  await monitor.waitForStatus('paused');
  await monitor.run('cont');
  return {
    guest,
    snapshot: () => {
      throw new Error('a restored VM cannot be copied here');
    },
  };
}

interface QemuParts {
  readonly name: string;
  readonly disk: string;
  readonly memory: string;
  /** Shared: what the VM writes to its memory gets into the file. */
  readonly isShared: boolean;
  readonly more: readonly string[];
}

async function startQemu(
  t: TestContext,
  { folder, agentDiskPath, kernelPath, initrdPath }: RestorableVmOptions,
  { name, disk, memory, isShared, more }: QemuParts,
): Promise<{ qemu: ChildProcess; monitor: Monitor; guest: GuestClient }> {
  const agentPort = await freePort();
  const { address, gateway, mac, prefixLength } = GUEST_NETWORK;
  const network = [
    'user,id=n0,ipv6=off',
    `net=${address.replace(/\d+$/, '20')}/${prefixLength},host=${gateway},dhcpstart=${address}`,
    `hostfwd=tcp:127.0.0.1:${agentPort}-${address}:${GUEST_AGENT_PORT}`,
  ].join(',');
  const monitorPath = join(folder, `${name}.qmp`);
  // The kernel's files belong to the machine's description, which a restored one must share.
  const kernel = more.includes('-kernel') ? [] : ['-kernel', kernelPath, '-initrd', initrdPath];
  const qemu = spawn(
    'qemu-system-x86_64',
    [
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
      ...['-serial', `file:${join(folder, `${name}.log`)}`, '-qmp', `unix:${monitorPath},server=on,wait=off`],
      ...['-machine', MACHINE, '-accel', 'tcg,tb-size=64', '-cpu', 'max', '-smp', '1', '-m', String(MEMORY_MIB)],
      ...[
        '-object',
        `memory-backend-file,id=mem,size=${MEMORY_MIB}M,mem-path=${memory},share=${isShared ? 'on' : 'off'}`,
      ],
      ...['-drive', `file=${disk},if=none,id=d0,format=qcow2`, '-device', 'virtio-blk-pci,drive=d0,disable-legacy=on'],
      ...['-drive', `file=${agentDiskPath},if=none,id=d1,format=raw,readonly=on`],
      ...['-device', 'virtio-blk-pci,drive=d1,disable-legacy=on'],
      ...['-netdev', network, '-device', `virtio-net-pci,netdev=n0,disable-legacy=on,romfile=,mac=${mac}`],
      ...kernel,
      ...more,
    ],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  t.after(async () => {
    if (qemu.exitCode !== null || qemu.signalCode !== null) return;
    qemu.kill('SIGKILL');
    await once(qemu, 'close');
  });
  const monitor = await Monitor.open(monitorPath);
  const guest = createGuestClient({ address: '127.0.0.1', port: agentPort, accessToken: 'secret' });
  t.after(() => {
    monitor.close();
    guest.close();
  });
  return { qemu, monitor, guest };
}

async function makeOverlay(backing: string, format: string, path: string): Promise<void> {
  await runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', backing, '-F', format, path]);
}

const message = z.object({
  return: z.unknown().optional(),
  error: z.object({ desc: z.string() }).optional(),
  event: z.string().optional(),
  QMP: z.unknown().optional(),
});
const runState = z.object({ status: z.string() });

/** QEMU's monitor (QMP), one command at a time. */
class Monitor {
  readonly #socket: Socket;
  readonly #answers: AsyncIterator<string>;

  static async open(path: string): Promise<Monitor> {
    const deadline = performance.now() + QMP_TIMEOUT_MS;
    for (;;) {
      const socket = connect(path);
      try {
        await once(socket, 'connect');
        const monitor = new Monitor(socket);
        await monitor.run('qmp_capabilities');
        return monitor;
      } catch (error) {
        socket.destroy();
        if (performance.now() > deadline) throw error;
        await delay(20);
      }
    }
  }

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#answers = createInterface({ input: socket })[Symbol.asyncIterator]();
  }

  async run(command: string, args: object = {}): Promise<unknown> {
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    for (;;) {
      const line = await this.#answers.next();
      if (line.done === true) throw new Error(`QEMU ended before it answered ${command}`);
      const { event, error, QMP, return: result } = message.parse(JSON.parse(line.value));
      if (event !== undefined || QMP !== undefined) continue;
      if (error !== undefined) throw new Error(`${command}: ${error.desc}`);
      return result;
    }
  }

  /** Memory in a file is not copied into the state. */
  async ignoreSharedMemory(): Promise<void> {
    await this.run('migrate-set-capabilities', { capabilities: [{ capability: 'x-ignore-shared', state: true }] });
  }

  async waitForStatus(wanted: string): Promise<void> {
    const deadline = performance.now() + QMP_TIMEOUT_MS;
    for (;;) {
      const { status } = runState.parse(await this.run('query-status'));
      if (status === wanted) return;
      if (performance.now() > deadline) throw new Error(`the VM is ${status}, not ${wanted}`);
      await delay(10);
    }
  }

  close(): void {
    this.#socket.destroy();
  }
}
