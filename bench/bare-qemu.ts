import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { GUEST_AGENT_PORT, GUEST_NETWORK } from '@nestbox/contract';
import { freePort } from '../test/support/free-port.ts';

export interface BareVm {
  readonly kernelPath: string;
  readonly initrdPath: string;
  readonly rootDiskPath: string;
  readonly agentDiskPath: string;
  readonly vcpuCount: number;
  readonly memoryMib: number;
  readonly accelerator: 'kvm' | 'tcg' | 'none';
}

/** Time between two questions to the guest agent, and so the precision of the figure. */
const ASK_EVERY_MS = 20;
const ASK_TIMEOUT_MS = 1000;

/**
 * Boots the guest by a bare QEMU command line with user networking until its agent answers, and ends it again.
 * Returns the milliseconds from QEMU's start to the first answer.
 */
export async function bootBareQemu(vm: BareVm): Promise<number> {
  const port = await freePort();
  const begunMs = performance.now();
  const qemu = spawn('qemu-system-x86_64', bareArguments(vm, port), { stdio: 'ignore' });
  const ended = once(qemu, 'exit');
  try {
    await firstAnswer(`http://127.0.0.1:${port}/health`, () => qemu.exitCode !== null);
    return performance.now() - begunMs;
  } finally {
    qemu.kill('SIGKILL');
    await ended;
  }
}

function bareArguments(vm: BareVm, port: number): string[] {
  const { address, gateway, mac } = GUEST_NETWORK;
  const kvm = vm.accelerator === 'kvm';
  const bus = kvm ? 'device' : 'pci';
  const network = `net=${gateway}/24,host=${gateway},dns=169.254.0.3,dhcpstart=169.254.0.100`;
  return [
    ...['-machine', kvm ? 'microvm' : 'q35', '-accel', kvm ? 'kvm' : 'tcg', '-cpu', kvm ? 'host' : 'max'],
    ...['-smp', String(vm.vcpuCount), '-m', String(vm.memoryMib)],
    ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none', '-serial', 'null'],
    ...['-kernel', vm.kernelPath, '-initrd', vm.initrdPath, '-append', 'console=ttyS0 quiet panic=1'],
    // A throw-away overlay of QEMU's own in place of ours.
    ...['-drive', `if=none,id=root,file=${vm.rootDiskPath},format=raw,snapshot=on`],
    ...['-drive', `if=none,id=agent,file=${vm.agentDiskPath},format=raw,readonly=on`],
    ...['-device', `virtio-blk-${bus},drive=root`, '-device', `virtio-blk-${bus},drive=agent`],
    ...['-netdev', `user,id=net,${network},hostfwd=tcp:127.0.0.1:${port}-${address}:${GUEST_AGENT_PORT}`],
    ...['-device', `virtio-net-${bus},netdev=net,mac=${mac}`],
  ];
}

/** Asks again and again without waiting for the answer before: questions into a network that is not up yet hang. */
async function firstAnswer(url: string, hasEnded: () => boolean): Promise<void> {
  const answered = new AbortController();
  while (!answered.signal.aborted) {
    if (hasEnded()) throw new Error('QEMU ended before the guest agent answered');
    fetch(url, { signal: AbortSignal.any([answered.signal, AbortSignal.timeout(ASK_TIMEOUT_MS)]) }).then(
      (response) => {
        if (response.status === 204) answered.abort();
      },
      () => {
        // Not yet.
      },
    );
    await sleep(ASK_EVERY_MS);
  }
}
