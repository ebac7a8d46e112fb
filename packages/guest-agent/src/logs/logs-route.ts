import type { HostAddresses } from '../lifecycle/host-addresses.ts';
import { RestError, type RestHandler, sendJson } from '../rest.ts';
import type { LogBuffer } from './log-buffer.ts';

/**
 * GET /logs?sandbox=ID&buffer=ID&after=SEQ: the lines of the sandbox after a position, for the host that keeps them. They tell
 * every command line, so nobody else may ask.
 */
export function logsRoute(logs: LogBuffer, hostAddresses: HostAddresses): RestHandler {
  return async (request, response, { searchParams }, { isInit }) => {
    if (isInit && !hostAddresses.includes(request.socket.remoteAddress))
      throw new RestError(403, 'only the host fetches logs');
    const after = Number(searchParams.get('after') ?? 0);
    if (!Number.isSafeInteger(after) || after < 0) throw new RestError(400, 'after is no position');
    sendJson(response, 200, logs.after(searchParams.get('buffer'), after, searchParams.get('sandbox') ?? ''), {
      'Cache-Control': 'no-store',
    });
  };
}
