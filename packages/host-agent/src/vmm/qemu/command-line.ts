import { basename } from 'node:path';
import type { VmDisk, VmMachine, VmSpec } from '../driver.ts';
import type { QemuAccelerator } from './accelerator.ts';
import { qemuRunFiles, runDirOfSocket } from './run-files.ts';

export const QEMU_BINARY = 'qemu-system-x86_64';

/**
 * Refuses obsolete system calls, new privileges, fork and exec, and changes of scheduling. All of snapshot, pause and
 * resume work under it.
 */
export const SECCOMP_POLICY = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny';

/** QEMU runs in the kernel's smallest set of devices: what a guest cannot see, it cannot attack. */
const Q35_MACHINE = 'q35,sata=off,smbus=off,usb=off,vmport=off,graphics=off,i8042=off';
/** PIT and PIC stay on (the default): without them the kernel's calibration takes longer. */
const MICROVM_MACHINE = 'microvm,usb=off,graphics=off';

/** `panic=1 reboot=t` with -no-reboot: a guest that panics or reboots ends its VMM, which is how we hear of it. */
const KERNEL_ARGS = ['console=ttyS0', 'quiet', 'panic=1', 'reboot=t'];

/**
 * The emulated processor. What costs an emulator much and gives such a guest nothing is left out: a check at each access to user memory
 * (SMAP, PKU), a fifth level of page tables (LA57); and ERMS, which makes the kernel copy and clear memory byte by
 * byte, where an emulated word costs as much as a byte (clearing takes 2.5 times as long with it).
 */
export const TCG_PROCESSOR = 'max,-smap,-pku,-la57,-erms';

/**
 * `tsc=reliable`: otherwise the kernel takes the delays of emulation for a broken counter and reads the HPET from then on, a call into QEMU
 * for each look at the clock. `mitigations=off`: an emulated processor does not speculate, and QEMU translates the work-arounds all the same.
 */
const TCG_KERNEL_ARGS = ['tsc=reliable', 'mitigations=off'];

/** Where the devices' state comes in at a restore: a descriptor, since the seccomp policy refuses programs to read it from. */
export const DEVICES_DESCRIPTOR = 3;

/** QEMU's arguments for a VM that boots. */
export function bootArguments(spec: VmSpec, accelerator: QemuAccelerator): string[] {
  return [
    ...machineArguments(spec, accelerator),
    '-kernel',
    spec.kernelPath,
    '-initrd',
    spec.initrdPath,
    '-append',
    [...KERNEL_ARGS, ...(accelerator.kind === 'tcg' ? TCG_KERNEL_ARGS : []), ...spec.kernelArgs].join(' '),
  ];
}

/** QEMU's arguments for a VM that waits for a saved state. Its kernel is in its memory. */
export function restoreArguments(machine: VmMachine, accelerator: QemuAccelerator): string[] {
  return [...machineArguments(machine, accelerator), '-S', '-incoming', 'defer'];
}

/**
 * What must be the same when a state is saved and when it is restored.
 *
 * Machine: `microvm` with KVM; `q35` under TCG, where `microvm` hangs in about one boot of ten (the kernel waits for a timer
 * tick that never comes).
 */
function machineArguments(spec: VmMachine, accelerator: QemuAccelerator): string[] {
  const bus = accelerator.kind === 'tcg' ? 'pci' : 'device';
  return [
    '-name',
    `nestbox-${spec.vmId}`,
    '-no-user-config',
    '-nodefaults',
    '-display',
    'none',
    '-no-reboot',
    '-sandbox',
    SECCOMP_POLICY,
    ...machine(accelerator),
    '-smp',
    `cpus=${spec.vcpuCount},sockets=1,cores=${spec.vcpuCount},threads=1`,
    '-m',
    `${spec.memoryMib}M`,
    '-object',
    // Private: VMs share the image's pages until they write. Not merged by KSM, which only costs time then.
    json({
      'qom-type': 'memory-backend-file',
      id: 'mem',
      size: spec.memoryMib * 1024 * 1024,
      'mem-path': spec.memoryPath,
      share: false,
      merge: false,
    }),
    // A stream of device state alone has no configuration section; the process that loads one must not expect it.
    '-global',
    'migration.send-configuration=off',
    ...qmpMonitor(spec.runDir),
    '-chardev',
    `file,id=console,path=${escapeCommas(spec.consolePath)},append=on`,
    '-serial',
    'chardev:console',
    ...spec.disks.flatMap((disk, index) => blockDevice(disk, index, bus)),
    ...networkDevice(spec, bus),
  ];
}

function machine(accelerator: QemuAccelerator): string[] {
  // A saved state of devices alone has no vmdesc, and the process that loads one must not expect it.
  const common = 'memory-backend=mem,suppress-vmdesc=on';
  if (accelerator.kind === 'kvm')
    return ['-machine', `${MICROVM_MACHINE},${common}`, '-accel', 'kvm', '-cpu', accelerator.cpuModel];
  return [
    '-machine',
    `${Q35_MACHINE},${common}`,
    '-accel',
    `tcg,tb-size=${accelerator.translationBufferMib}`,
    '-cpu',
    TCG_PROCESSOR,
  ];
}

const QMP_CHARDEV = 'socket,id=qmp,server=on,wait=off,path=';

function qmpMonitor(runDir: string): string[] {
  const socket = escapeCommas(qemuRunFiles(runDir).qmpSocket);
  return ['-chardev', `${QMP_CHARDEV}${socket}`, '-mon', 'chardev=qmp,mode=control'];
}

/**
 * The run folder of the VM that a command line belongs to; undefined when it is none of ours. Also tells the nsenter and setpriv
 * that are about to become QEMU, since they carry the same words; but not the bubblewrap that is QEMU's parent and ends with it.
 */
export function runDirOfCommandLine(words: readonly string[]): string | undefined {
  if (basename(words[0] ?? '') === 'bwrap') return undefined;
  for (const [index, word] of words.entries()) {
    if (!word.startsWith(QMP_CHARDEV) || words[index - 1] !== '-chardev') continue;
    return runDirOfSocket(word.slice(QMP_CHARDEV.length).replaceAll(',,', ','));
  }
  return undefined;
}

/**
 * A disk. `discard=unmap` gives the host back what the guest frees. A failed write stops the VM (`stalled`), so a full host
 * disk loses nothing: the write is repeated on resume. A failed read goes to the guest, as a real disk's would.
 */
function blockDevice(disk: VmDisk, index: number, bus: 'pci' | 'device'): string[] {
  const file = `disk${index}-file`;
  const node = `disk${index}`;
  const shared = { 'read-only': disk.readOnly, discard: 'unmap' };
  return [
    '-blockdev',
    // Threads, since io_uring is switched off on many hosts. The guest's flushes reach the host's disk.
    json({ driver: 'file', 'node-name': file, filename: disk.path, aio: 'threads', ...shared }),
    '-blockdev',
    json({ driver: disk.format, 'node-name': node, file, ...shared }),
    '-device',
    json({
      driver: `virtio-blk-${bus}`,
      id: `vd${index}`,
      drive: node,
      // Write errors are possible only where writes are.
      ...(disk.readOnly ? {} : { werror: 'stop', rerror: 'report' }),
      ...(bus === 'pci' ? { 'disable-legacy': 'on' } : {}),
    }),
  ];
}

function networkDevice(spec: VmMachine, bus: 'pci' | 'device'): string[] {
  const { netnsName, tapName, guestMac } = spec.network;
  if (netnsName === undefined) return [];
  return [
    '-netdev',
    json({ type: 'tap', id: 'net', ifname: tapName, script: 'no', downscript: 'no' }),
    '-device',
    // No boot ROM: nobody boots from the network, and it is 256 KiB of firmware that runs in the guest.
    json({
      driver: `virtio-net-${bus}`,
      id: 'nic',
      netdev: 'net',
      mac: guestMac,
      ...(bus === 'pci' ? { 'disable-legacy': 'on', romfile: '' } : {}),
    }),
  ];
}

function json(value: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(value);
}

/** In QEMU's key=value options a comma in a value is doubled. */
function escapeCommas(value: string): string {
  return value.replaceAll(',', ',,');
}
