import type { Activity } from './activity.ts';
import { isLoopback } from './ports/tcp-address.ts';
import type { Processes } from './process/processes.ts';
import { type RestHandler, sendJson } from './rest.ts';
import { type SocketDiag, TCP_ESTABLISHED, TCP_LISTEN, type TcpSocket } from './system/socket-diag.ts';

const SHOWN_STATES = [TCP_LISTEN, TCP_ESTABLISHED];

/**
 * GET /activity (host-system.md). Open connections are requests that the agent answers now, and inside a guest the ones
 * from outside to programs of the sandbox; the host's idle ones to the agent tell nothing.
 */
export function activityRoute(
  activity: Activity,
  processes: Processes,
  socketDiag: SocketDiag,
  agentPort: number,
): RestHandler {
  return async (_request, response, _url, { isInit }) => {
    const outside = isInit ? connectionsFromOutside(socketDiag.list(SHOWN_STATES), agentPort) : 0;
    sendJson(response, 200, {
      last_request_at_ms: activity.lastRequestAtMs,
      running_processes: processes.table.running().length,
      open_connections: activity.openRequests + outside,
    });
  };
}

/** How many established connections lead to a port that some program but the agent listens on. */
export function connectionsFromOutside(sockets: readonly TcpSocket[], agentPort: number): number {
  const served = new Set(sockets.filter(({ state }) => state === TCP_LISTEN).map(({ localPort }) => localPort));
  served.delete(agentPort);
  return sockets.filter(
    (socket) => socket.state === TCP_ESTABLISHED && !isLoopback(socket) && served.has(socket.localPort),
  ).length;
}
