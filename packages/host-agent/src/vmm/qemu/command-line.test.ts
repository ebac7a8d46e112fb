import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { VmSpec } from '../driver.ts';
import type { QemuAccelerator } from './accelerator.ts';
import { bootArguments, runDirOfCommandLine, TCG_PROCESSOR } from './command-line.ts';

const TCG: QemuAccelerator = { kind: 'tcg', translationBufferMib: 48 };
const KVM: QemuAccelerator = { kind: 'kvm', cpuModel: 'host,-arch-capabilities' };

const SPEC: VmSpec = {
  vmId: 'iabc',
  vcpuCount: 2,
  memoryMib: 512,
  userId: 1_879_048_192,
  memoryPath: '/state/sandboxes/i1/memory',
  kernelPath: '/k/vmlinux',
  initrdPath: '/k/initrd',
  kernelArgs: ['a=b', 'c'],
  disks: [
    { path: '/d/root.qcow2', format: 'qcow2', readOnly: false },
    { path: '/d/agent.ext4', format: 'raw', readOnly: true },
  ],
  network: { netnsName: 'ns1', tapName: 'tap0', guestMac: '02:fc:00:00:00:05' },
  runDir: '/run/nestbox/ab12cd/iabc',
  consolePath: '/s/console.log',
};

/** All values of an option that may be given many times. */
function valuesOf(args: readonly string[], option: string): string[] {
  return args.flatMap((word, index) => (args[index - 1] === option ? [word] : []));
}

function devices(args: readonly string[]): Record<string, unknown>[] {
  return valuesOf(args, '-device').map((text) => JSON.parse(text));
}

test('TCG runs on q35 with PCI devices', () => {
  const args = bootArguments(SPEC, TCG);
  assert.match(valuesOf(args, '-machine')[0] ?? '', /^q35,.*memory-backend=mem,suppress-vmdesc=on/);
  assert.deepEqual(valuesOf(args, '-accel'), ['tcg,tb-size=48']);
  assert.deepEqual(valuesOf(args, '-cpu'), [TCG_PROCESSOR]);
  assert.deepEqual(
    devices(args).map((device) => [device.driver, device['disable-legacy']]),
    [
      ['virtio-blk-pci', 'on'],
      ['virtio-blk-pci', 'on'],
      ['virtio-net-pci', 'on'],
    ],
  );
});

test('KVM runs on microvm with MMIO devices', () => {
  const args = bootArguments(SPEC, KVM);
  assert.match(valuesOf(args, '-machine')[0] ?? '', /^microvm,.*memory-backend=mem,suppress-vmdesc=on/);
  assert.deepEqual(valuesOf(args, '-cpu'), ['host,-arch-capabilities']);
  assert.deepEqual(
    devices(args).map((device) => device.driver),
    ['virtio-blk-device', 'virtio-blk-device', 'virtio-net-device'],
  );
});

test('every VM is jailed and has nothing that it was not given', () => {
  for (const accelerator of [TCG, KVM]) {
    const args = bootArguments(SPEC, accelerator);
    assert.deepEqual(valuesOf(args, '-sandbox'), [
      'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
    ]);
    for (const flag of ['-nodefaults', '-no-user-config', '-no-reboot']) assert.ok(args.includes(flag), flag);
    assert.deepEqual(valuesOf(args, '-display'), ['none']);
  }
});

test('disks come in order; write errors stop the VM; read-only ones are read-only at every level', () => {
  const args = bootArguments(SPEC, TCG);
  const nodes: Record<string, unknown>[] = valuesOf(args, '-blockdev').map((text) => JSON.parse(text));
  assert.deepEqual(
    nodes.map((node) => [node['node-name'], node.driver, node['read-only'], node.discard]),
    [
      ['disk0-file', 'file', false, 'unmap'],
      ['disk0', 'qcow2', false, 'unmap'],
      ['disk1-file', 'file', true, 'unmap'],
      ['disk1', 'raw', true, 'unmap'],
    ],
  );
  const [root, agent] = devices(args);
  assert.equal(root?.werror, 'stop');
  assert.equal(agent?.werror, undefined);
});

test('the kernel gets our words and then those of the caller', () => {
  assert.match(valuesOf(bootArguments(SPEC, TCG), '-append')[0] ?? '', /^console=ttyS0 .*panic=1.* a=b c$/);
});

test('without a namespace there is no network device', () => {
  const args = bootArguments({ ...SPEC, network: { ...SPEC.network, netnsName: undefined } }, TCG);
  assert.deepEqual(valuesOf(args, '-netdev'), []);
  assert.ok(devices(args).every((device) => !String(device.driver).includes('net')));
});

test('the run folder is found again in the command line, whatever its name', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), fc.constantFrom(TCG, KVM), (name, accelerator) => {
      const runDir = `/run/${name.replaceAll(/[/\0]/g, '_').replace(/^\.+$/, 'dots')}`;
      const args = bootArguments({ ...SPEC, runDir }, accelerator);
      assert.equal(
        runDirOfCommandLine(['/bin/sh', '-c', 'exec "$@"', 'x', '--', 'qemu-system-x86_64', ...args]),
        runDir,
      );
    }),
  );
});

test('a process that merely mentions the run folder is none of ours', () => {
  const socket = 'socket,id=qmp,server=on,wait=off,path=/run/nestbox/a/qmp.sock';
  assert.equal(runDirOfCommandLine(['tail', '-f', '/run/nestbox/a/qemu.log']), undefined);
  assert.equal(runDirOfCommandLine(['grep', socket]), undefined);
  assert.equal(runDirOfCommandLine(['-chardev']), undefined);
  assert.equal(runDirOfCommandLine(['-chardev', 'socket,id=qmp,server=on,wait=off,path=/a/other']), undefined);
  assert.equal(runDirOfCommandLine([]), undefined);
});
