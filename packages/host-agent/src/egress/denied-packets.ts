import { formatIpv4 } from '@nestbox/contract';
import type { Denial } from './denials.ts';

/** Of linux/netlink.h and linux/netfilter/nfnetlink_log.h. */
export const NETLINK_NETFILTER = 12;
const SUBSYSTEM = 4;
const PACKET_MESSAGE = SUBSYSTEM << 8;
const CONFIG_MESSAGE = (SUBSYSTEM << 8) | 1;
const NLM_F_REQUEST = 1;
const HEADER_BYTES = 16;
const GENERIC_BYTES = 4;
const CFG_CMD = 1;
const CFG_CMD_BIND = 1;
const CFG_MODE = 2;
const CFG_COPY_PACKET = 2;
const CFG_QUEUE_THRESHOLD = 5;
const ATTRIBUTE_PAYLOAD = 9;
const ATTRIBUTE_TYPE_MASK = 0x3fff;

const PROTOCOLS: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp' };

/** What makes a netlink socket hear of the packets that rules log to a group, each at once. */
export function logSubscription(group: number, snapBytes: number): Buffer[] {
  const mode = Buffer.alloc(6);
  mode.writeUInt32BE(snapBytes, 0);
  mode[4] = CFG_COPY_PACKET;
  const threshold = Buffer.alloc(4);
  threshold.writeUInt32BE(1);
  return [
    configMessage(group, CFG_CMD, Buffer.from([CFG_CMD_BIND])),
    configMessage(group, CFG_MODE, mode),
    configMessage(group, CFG_QUEUE_THRESHOLD, threshold),
  ];
}

/** Where the packets of some netlink messages were bound. What cannot be read is left out. Never throws. */
export function readDeniedPackets(data: Buffer): Denial[] {
  const denials: Denial[] = [];
  for (const message of split(data, 4, (at) => data.readUInt32LE(at))) {
    if (message.length < HEADER_BYTES + GENERIC_BYTES || message.readUInt16LE(4) !== PACKET_MESSAGE) continue;
    const attributes = message.subarray(HEADER_BYTES + GENERIC_BYTES);
    for (const attribute of split(attributes, 4, (at) => attributes.readUInt16LE(at))) {
      if ((attribute.readUInt16LE(2) & ATTRIBUTE_TYPE_MASK) !== ATTRIBUTE_PAYLOAD) continue;
      const denial = readPacket(attribute.subarray(4));
      if (denial !== undefined) denials.push(denial);
    }
  }
  return denials;
}

/** Items that begin with their own length, at multiples of four. */
function* split(data: Buffer, headBytes: number, lengthAt: (at: number) => number): Generator<Buffer> {
  for (let at = 0; at + headBytes <= data.length; ) {
    const length = lengthAt(at);
    if (length < headBytes || at + length > data.length) return;
    yield data.subarray(at, at + length);
    at += (length + 3) & ~3;
  }
}

function readPacket(packet: Buffer): Denial | undefined {
  const headerBytes = ((packet[0] ?? 0) & 0x0f) * 4;
  if (packet.length < 20 || (packet[0] ?? 0) >> 4 !== 4 || headerBytes < 20) return undefined;
  const number = packet[9] ?? 0;
  const protocol = PROTOCOLS[number] ?? String(number);
  const hasPort = (protocol === 'tcp' || protocol === 'udp') && packet.length >= headerBytes + 4;
  return {
    protocol,
    address: formatIpv4(packet.readUInt32BE(16)),
    ...(hasPort ? { port: packet.readUInt16BE(headerBytes + 2) } : {}),
    reason: 'this address is not allowed',
  };
}

function configMessage(group: number, type: number, value: Buffer): Buffer {
  const attributeBytes = 4 + value.length;
  const message = Buffer.alloc(HEADER_BYTES + GENERIC_BYTES + ((attributeBytes + 3) & ~3));
  message.writeUInt32LE(message.length, 0);
  message.writeUInt16LE(CONFIG_MESSAGE, 4);
  message.writeUInt16LE(NLM_F_REQUEST, 6);
  message.writeUInt16BE(group, HEADER_BYTES + 2);
  message.writeUInt16LE(attributeBytes, HEADER_BYTES + GENERIC_BYTES);
  message.writeUInt16LE(type, HEADER_BYTES + GENERIC_BYTES + 2);
  value.copy(message, HEADER_BYTES + GENERIC_BYTES + 4);
  return message;
}
