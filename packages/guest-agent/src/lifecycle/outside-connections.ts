import { hexAddress, ipv4Address } from '../ports/tcp-address.ts';
import {
  type SocketDiag,
  TCP_CLOSE_WAIT,
  TCP_CLOSING,
  TCP_ESTABLISHED,
  TCP_FIN_WAIT1,
  TCP_FIN_WAIT2,
  TCP_LAST_ACK,
  type TcpSocket,
} from '../system/socket-diag.ts';

/** States in which a program, or the kernel on its behalf, waits for the other end. */
export const OPEN_STATES: readonly number[] = [
  TCP_ESTABLISHED,
  TCP_FIN_WAIT1,
  TCP_FIN_WAIT2,
  TCP_CLOSE_WAIT,
  TCP_LAST_ACK,
  TCP_CLOSING,
];

/**
 * The connections that lead out of the guest by `guestAddress`, apart from those of the host as it is now, `hostAddress`:
 * these can only have come after a restore, which gives the guest another slot and so the host another address.
 */
export function outsideConnections(
  sockets: readonly TcpSocket[],
  guestAddress: string,
  hostAddress: string,
): TcpSocket[] {
  const guest = hexAddress(guestAddress);
  const host = hexAddress(hostAddress);
  return sockets.filter(({ localAddress, remoteAddress }) => {
    if (ipv4Address(localAddress) !== guest) return false;
    const remote = ipv4Address(remoteAddress);
    return remote !== guest && remote !== host;
  });
}

/**
 * Ends the connections that were open before a restore: nobody is at their other end any more, and a program that waits
 * for an answer there would wait until TCP gives up, a quarter of an hour later. Synchronous, so that none that a
 * command opens after the restore is meant. Throws SystemCallError.
 */
export function closeOutsideConnections(socketDiag: SocketDiag, guestAddress: string, hostAddress: string): void {
  socketDiag.destroy(outsideConnections(socketDiag.list(OPEN_STATES), guestAddress, hostAddress));
}
