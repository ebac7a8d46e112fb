import { closeSync, openSync, read, writeSync } from 'node:fs';
import koffi from 'koffi';

// Started by fake-guest.ts: plays the VMM. Opens the slot's TAP as a VMM does and carries its frames to and from a
// TAP of its own that stands for the network card inside the guest: tap-wire.ts <slot's netns> <tap> <guest's netns> <card>

const TUNSETIFF = 0x4004_54ca;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const CLONE_NEWNET = 0x4000_0000;
const LARGEST_FRAME = 65_536;

const libc = koffi.load('libc.so.6');
const setns = libc.func('int setns(int fd, int type)');
const ioctl = libc.func('int ioctl(int fd, unsigned long request, void *argument)');

function openTap(netnsName: string, tapName: string): number {
  const netns = openSync(`/run/netns/${netnsName}`, 'r');
  if (setns(netns, CLONE_NEWNET) !== 0) throw new Error(`setns to ${netnsName} failed`);
  closeSync(netns);
  const fd = openSync('/dev/net/tun', 'r+');
  // struct ifreq: 16 bytes of name, then the flags.
  const request = Buffer.alloc(40);
  request.write(tapName);
  request.writeUInt16LE(IFF_TAP | IFF_NO_PI, 16);
  if (ioctl(fd, TUNSETIFF, request) !== 0) throw new Error(`TUNSETIFF of ${tapName} in ${netnsName} failed`);
  return fd;
}

function carry(from: number, to: number): void {
  const frame = Buffer.alloc(LARGEST_FRAME);
  read(from, frame, 0, LARGEST_FRAME, null, (error, length) => {
    if (error) {
      console.error(error);
      process.exit(1);
    }
    try {
      writeSync(to, frame, 0, length);
    } catch {
      // An interface that is down takes no frames, as a real one.
    }
    carry(from, to);
  });
}

const [slotNetns = '', slotTap = '', guestNetns = '', guestCard = ''] = process.argv.slice(2);
const slotSide = openTap(slotNetns, slotTap);
const guestSide = openTap(guestNetns, guestCard);
carry(slotSide, guestSide);
carry(guestSide, slotSide);
process.on('disconnect', () => process.exit());
process.send?.('ready');
