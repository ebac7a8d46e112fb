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

export const TCP_ESTABLISHED = 0x01;
export const TCP_LISTEN = 0x0a;

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
