import type { TcpSocket } from '../system/socket-diag.ts';

/** What IPv6 puts before an IPv4 address (RFC 4291, section 2.5.5.2). */
const MAPPED = `${'0'.repeat(20)}ffff`;

/** A dotted IPv4 address in the form of the kernel's sockets: 8 hexadecimal digits. */
export function hexAddress(dotted: string): string {
  return Buffer.from(dotted.split('.').map(Number)).toString('hex');
}

/** The IPv4 address that an address of a socket means, IPv4-mapped ones of version 6 included; else undefined. */
export function ipv4Address(address: string): string | undefined {
  if (address.length === 8) return address;
  return address.startsWith(MAPPED) ? address.slice(MAPPED.length) : undefined;
}

const LOOPBACK = '7f000001';
const LOOPBACK_6 = `${'0'.repeat(31)}1`;
const MAPPED_LOOPBACK = `${MAPPED}${LOOPBACK}`;

export function isLoopback({ localAddress }: TcpSocket): boolean {
  return localAddress === LOOPBACK || localAddress === LOOPBACK_6 || localAddress === MAPPED_LOOPBACK;
}

const ANY = '0'.repeat(8);
const ANY_6 = '0'.repeat(32);

/** Whether the socket listens on every address of the machine. */
export function isAnyAddress({ localAddress }: TcpSocket): boolean {
  return localAddress === ANY || localAddress === ANY_6;
}
