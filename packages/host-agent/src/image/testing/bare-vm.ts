import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { GUEST_AGENT_PORT, GUEST_NETWORK } from '@nestbox/contract';
import { runCommand } from '@nestbox/kit';
import { freePort } from '../../../../../test/support/free-port.ts';
import type { CurrentImages } from '../../storage/images-file.ts';

export interface BareVm {
  /** TCP port on 127.0.0.1 behind which the guest agent is. */
  readonly agentPort: number;
  /** Waits until the console has shown this; throws with all it showed when the VM ends before, or the time is over. */
  waitForConsole(pattern: RegExp, timeoutMs: number): Promise<void>;
  /** Waits until the VM ends by itself. */
  waitForExit(timeoutMs: number): Promise<void>;
}

export interface BareVmOptions {
  readonly images: CurrentImages;
  readonly rootfsPath: string;
  /** Where the disk of this VM goes. */
  readonly folder: string;
  readonly memoryMib?: number;
  readonly vcpuCount?: number;
  /** False: the VM has no second disk. */
  readonly agentDisk?: boolean;
}

const MACHINE = 'q35,suppress-vmdesc=on,sata=off,smbus=off,usb=off,vmport=off,graphics=off,i8042=off';

/**
 * Boots images with a plain QEMU command line, without root and without any part of the product but the images: its
 * network is QEMU's own, which reaches nothing but us (restrict=on). Ended with the test.
 */
export async function bootBareVm(test: TestContext, options: BareVmOptions): Promise<BareVm> {
  const { images, rootfsPath, folder, memoryMib = 512, vcpuCount = 1, agentDisk = true } = options;
  const overlay = `${folder}/disk.qcow2`;
  await runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', rootfsPath, '-F', 'raw', overlay]);
  const agentPort = await freePort();
  const disk = (path: string, format: string, index: number) => [
    ...['-drive', `file=${path},if=none,id=d${index},format=${format},readonly=${index === 0 ? 'off' : 'on'}`],
    ...['-device', `virtio-blk-pci,drive=d${index},disable-legacy=on`],
  ];
  const { address, gateway, mac, prefixLength } = GUEST_NETWORK;
  const network = [
    'user,id=n0,restrict=on,ipv6=off',
    `net=${address.replace(/\d+$/, '20')}/${prefixLength},host=${gateway},dhcpstart=${address}`,
    `hostfwd=tcp:127.0.0.1:${agentPort}-${address}:${GUEST_AGENT_PORT}`,
  ].join(',');
  const vm = spawn(
    'qemu-system-x86_64',
    [
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio'],
      ...['-machine', MACHINE, '-accel', 'tcg,tb-size=64', '-cpu', 'max'],
      ...['-smp', String(vcpuCount), '-m', String(memoryMib)],
      ...['-kernel', images.kernelPath, '-initrd', images.initrdPath],
      ...['-append', 'console=ttyS0 quiet panic=1 reboot=t'],
      ...disk(overlay, 'qcow2', 0),
      ...(agentDisk ? disk(images.agentDiskPath, 'raw', 1) : []),
      ...['-netdev', network, '-device', `virtio-net-pci,netdev=n0,disable-legacy=on,romfile=,mac=${mac}`],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const closed = once(vm, 'close');
  test.after(async () => {
    vm.kill('SIGKILL');
    await closed;
  });
  return { agentPort, ...watchConsole(vm) };
}

function watchConsole(vm: ChildProcess): Omit<BareVm, 'agentPort'> {
  let shown = '';
  let ended = false;
  const waiting = new Set<() => void>();
  const changed = () => {
    for (const look of waiting) look();
  };
  for (const stream of [vm.stdout, vm.stderr])
    stream?.setEncoding('utf8').on('data', (text: string) => {
      shown += text;
      changed();
    });
  vm.once('close', () => {
    ended = true;
    changed();
  });
  /** Settles when `state` says done, and fails when it says never or the time is over. */
  const until = (state: () => 'done' | 'waiting' | 'never', timeoutMs: number, what: string) =>
    new Promise<void>((resolve, reject) => {
      const fail = (reason: string) => reject(new Error(`${what}: ${reason}. The console showed:\n${shown}`));
      const timer = setTimeout(() => settle(() => fail(`not within ${timeoutMs} ms`)), timeoutMs);
      const settle = (end: () => void) => {
        clearTimeout(timer);
        waiting.delete(look);
        end();
      };
      const look = () => {
        const now = state();
        if (now === 'done') settle(resolve);
        if (now === 'never') settle(() => fail('the VM ended before'));
      };
      waiting.add(look);
      look();
    });
  return {
    waitForConsole: (pattern, timeoutMs) =>
      until(() => (pattern.test(shown) ? 'done' : ended ? 'never' : 'waiting'), timeoutMs, String(pattern)),
    waitForExit: (timeoutMs) => until(() => (ended ? 'done' : 'waiting'), timeoutMs, 'the end of the VM'),
  };
}
