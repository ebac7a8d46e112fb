/** One line of /proc/net/tcp or /proc/net/tcp6. */
export interface TcpSocket {
  readonly family: 4 | 6;
  /** `127.0.0.1` or, for version 6, 32 hexadecimal digits in network order. */
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly state: number;
}

/** include/net/tcp_states.h of the kernel. */
export const TCP_ESTABLISHED = 0x01;
export const TCP_FIN_WAIT1 = 0x04;
export const TCP_FIN_WAIT2 = 0x05;
export const TCP_CLOSE_WAIT = 0x08;
export const TCP_LAST_ACK = 0x09;
export const TCP_LISTEN = 0x0a;
export const TCP_CLOSING = 0x0b;

const LINE =
  /^\s*\d+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) ([0-9A-F]{2}) /;

/** Parses the kernel's table of TCP sockets (proc_net(5)) of either version; other lines, the heading too, are skipped. */
export function parseTcpTable(text: string): TcpSocket[] {
  const sockets: TcpSocket[] = [];
  for (const line of text.split('\n')) {
    const [, local, localPort, remote, remotePort, state] = LINE.exec(line) ?? [];
    if (!local || !localPort || !remote || !remotePort || !state || local.length !== remote.length) continue;
    sockets.push({
      family: local.length === 8 ? 4 : 6,
      localAddress: decodeAddress(local),
      localPort: Number.parseInt(localPort, 16),
      remoteAddress: decodeAddress(remote),
      remotePort: Number.parseInt(remotePort, 16),
      state: Number.parseInt(state, 16),
    });
  }
  return sockets;
}

/** The kernel prints each 32-bit word in the processor's order, which is little-endian on all that we run on. */
function decodeAddress(hex: string): string {
  const bytes = Buffer.from(hex, 'hex');
  bytes.swap32();
  return bytes.length === 4 ? bytes.join('.') : bytes.toString('hex');
}

const MAPPED = `${'0'.repeat(20)}ffff`;

/** The IPv4 address that an address of the table means, IPv4-mapped ones of version 6 included; else undefined. */
export function ipv4Address(address: string): string | undefined {
  if (address.includes('.')) return address;
  return address.startsWith(MAPPED) ? Buffer.from(address.slice(MAPPED.length), 'hex').join('.') : undefined;
}

/** The bytes of an address of the table, in network order. */
export function addressBytes(address: string): Buffer {
  return address.includes('.') ? Buffer.from(address.split('.').map(Number)) : Buffer.from(address, 'hex');
}

const LOOPBACK_6 = `${'0'.repeat(31)}1`;
const MAPPED_LOOPBACK = '00000000000000000000ffff7f000001';
const ANY_6 = '0'.repeat(32);

export function isLoopback({ localAddress }: TcpSocket): boolean {
  return localAddress === '127.0.0.1' || localAddress === LOOPBACK_6 || localAddress === MAPPED_LOOPBACK;
}

/** Whether the socket listens on every address of the machine. */
export function isAnyAddress({ localAddress }: TcpSocket): boolean {
  return localAddress === '0.0.0.0' || localAddress === ANY_6;
}
