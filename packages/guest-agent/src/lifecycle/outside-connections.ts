import { attempt } from '../attempt.ts';
import { readTcpSocketsNow } from '../ports/tcp-sockets.ts';
import {
  addressBytes,
  ipv4Address,
  TCP_CLOSE_WAIT,
  TCP_CLOSING,
  TCP_ESTABLISHED,
  TCP_FIN_WAIT1,
  TCP_FIN_WAIT2,
  TCP_LAST_ACK,
  type TcpSocket,
} from '../ports/tcp-table.ts';
import { destroyTcpConnections, loadSocketDiag } from '../system/socket-diag.ts';

/** States in which a program, or the kernel on its behalf, waits for the other end. */
const OPEN_STATES: ReadonlySet<number> = new Set([
  TCP_ESTABLISHED,
  TCP_FIN_WAIT1,
  TCP_FIN_WAIT2,
  TCP_CLOSE_WAIT,
  TCP_LAST_ACK,
  TCP_CLOSING,
]);

/**
 * The connections that lead out of the guest by `guestAddress`, apart from those of the host as it is now, `hostAddress`:
 * these can only have come after a restore, which gives the guest another slot and so the host another address.
 */
export function outsideConnections(
  sockets: readonly TcpSocket[],
  guestAddress: string,
  hostAddress: string,
): TcpSocket[] {
  return sockets.filter(({ state, localAddress, remoteAddress }) => {
    if (!OPEN_STATES.has(state) || ipv4Address(localAddress) !== guestAddress) return false;
    const remote = ipv4Address(remoteAddress);
    return remote !== guestAddress && remote !== hostAddress;
  });
}

/**
 * Ends the connections that were open before a restore: nobody is at their other end any more, and a program that waits
 * for an answer there would wait until TCP gives up, a quarter of an hour later. Synchronous, so that none that a
 * command opens after the restore is meant.
 */
export function closeOutsideConnections(guestAddress: string, hostAddress: string): void {
  const connections = outsideConnections(readTcpSocketsNow(), guestAddress, hostAddress);
  if (connections.length === 0) return;
  // Some kernels have it compiled in; then there is nothing to load.
  attempt('loading the socket diagnosis', loadSocketDiag);
  attempt('closing connections from before the restore', () =>
    destroyTcpConnections(
      connections.map(({ localAddress, localPort, remoteAddress, remotePort }) => ({
        localAddress: addressBytes(localAddress),
        localPort,
        remoteAddress: addressBytes(remoteAddress),
        remotePort,
      })),
    ),
  );
}
