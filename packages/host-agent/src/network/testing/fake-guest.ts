import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { GUEST_NETWORK } from '@nestbox/contract';
import { runCommand } from '@nestbox/kit';
import type { NetworkSlot } from '../network.ts';
import { RemoteTraffic } from './remote-traffic.ts';

/** What a VM is to its slot: a process that holds the TAP, and behind it a machine with the guest's address. */
export class FakeGuest {
  readonly traffic: RemoteTraffic;
  readonly netnsName: string;
  #wire: ChildProcess;

  static async boot(slot: NetworkSlot): Promise<FakeGuest> {
    const netnsName = `guest-of-${slot.netnsName}`;
    await using undo = new AsyncDisposableStack();
    await runCommand('ip', ['netns', 'add', netnsName]);
    undo.defer(async () => {
      await runCommand('ip', ['netns', 'del', netnsName]);
    });
    // Made to stay, so that it outlives the wire.
    await runCommand('ip', ['-n', netnsName, 'tuntap', 'add', 'dev', 'eth0', 'mode', 'tap']);
    const wire = await plugIn(slot, netnsName);
    undo.defer(() => end(wire));
    const { address, prefixLength, gateway, mac } = GUEST_NETWORK;
    await runCommand('ip', ['-n', netnsName, '-batch', '-'], {
      input: `link set lo up
link set eth0 address ${mac} up
addr add ${address}/${prefixLength} dev eth0
route add default via ${gateway}
`,
    });
    const traffic = await RemoteTraffic.start(netnsName);
    undo.move();
    return new FakeGuest(netnsName, wire, traffic);
  }

  private constructor(netnsName: string, wire: ChildProcess, traffic: RemoteTraffic) {
    this.netnsName = netnsName;
    this.#wire = wire;
    this.traffic = traffic;
  }

  /**
   * Plugs the running guest into another slot, its sockets and all, as when it is restored there. Like a restored one it has
   * the gateway in its ARP cache already.
   */
  async moveTo(slot: NetworkSlot): Promise<void> {
    await end(this.#wire);
    const { gateway, gatewayMac } = GUEST_NETWORK;
    await this.ip('neigh', 'replace', gateway, 'lladdr', gatewayMac, 'dev', 'eth0', 'nud', 'permanent');
    this.#wire = await plugIn(slot, this.netnsName);
  }

  /** Runs `ip` inside the guest, as its root may. */
  async ip(...args: string[]): Promise<void> {
    await runCommand('ip', ['-n', this.netnsName, ...args]);
  }

  async powerOff(): Promise<void> {
    await this.traffic.stop();
    await end(this.#wire);
    await runCommand('ip', ['netns', 'del', this.netnsName]);
  }
}

async function plugIn(slot: NetworkSlot, guestNetns: string): Promise<ChildProcess> {
  const program = join(import.meta.dirname, 'tap-wire.ts');
  const wire = spawn(process.execPath, [program, slot.netnsName, slot.tapName, guestNetns, 'eth0'], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  await once(wire, 'message');
  return wire;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}
