import { isIPv4 } from 'node:net';
import { hexAddress } from '../ports/tcp-address.ts';
import type { TcpSocket } from '../system/socket-diag.ts';

interface SocketFields {
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress?: string;
  readonly remotePort?: number;
  readonly state: number;
}

/** A socket as the kernel would tell it, its addresses as people write them. */
export function socketOf({ localAddress, localPort, remoteAddress, remotePort = 0, state }: SocketFields): TcpSocket {
  const family = isIPv4(localAddress) ? 4 : 6;
  return {
    family,
    state,
    localAddress: digits(localAddress),
    localPort,
    remoteAddress: digits(remoteAddress ?? (family === 4 ? '0.0.0.0' : '::')),
    remotePort,
    cookie: '00'.repeat(8),
  };
}

function digits(address: string): string {
  if (isIPv4(address)) return hexAddress(address);
  const [, mapped] = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(address) ?? [];
  if (mapped !== undefined) return `${'0'.repeat(20)}ffff${hexAddress(mapped)}`;
  const [head = '', tail = ''] = address.split('::');
  const groups = (text: string) =>
    text === ''
      ? ''
      : text
          .split(':')
          .map((group) => group.padStart(4, '0'))
          .join('');
  return `${groups(head)}${groups(tail).padStart(32 - groups(head).length, '0')}`;
}
