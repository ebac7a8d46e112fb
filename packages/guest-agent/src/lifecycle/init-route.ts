import { ENVD_VERSION } from '@nestbox/contract';
import { secretsEqual } from '../auth.ts';
import type { AgentContext } from '../context.ts';
import { RestError, type RestHandler, readBody, sendEmpty } from '../rest.ts';
import type { HostAddresses } from './host-addresses.ts';
import { parseInitRequest } from './init-request.ts';
import type { Lifecycle, TakenInit } from './lifecycle.ts';

/** A CA bundle and a thousand variables fit many times. */
const MAX_BODY_BYTES = 4 * 1024 * 1024;

/** In milliseconds of Unix time what the clock is set to. */
export const CLOCK_HEADER = 'X-Nestbox-Clock-Ms';

export function clockMs(clockUs: number): string {
  return String(Math.floor(clockUs / 1000));
}

/**
 * POST /init. Who asks must know the present access token, unless there is none yet, or it is the host that asks. (envd
 * asks Firecracker's metadata service for a hash of the new token instead, which other VMMs do not have.)
 */
export function initRoute(lifecycle: Pick<Lifecycle, 'init'>, hostAddresses: HostAddresses): RestHandler {
  return async (request, response, _url, context) => {
    const versionHeader = { 'X-Envd-Version': ENVD_VERSION };
    let taken: TakenInit;
    try {
      const init = parseInitRequest(await readBody(request, MAX_BODY_BYTES));
      const isHost = hostAddresses.includes(request.socket.remoteAddress);
      if (!isHost) authorize(init.accessToken, context);
      taken = await lifecycle.init(init, { connection: request.socket, isHost });
    } catch (error) {
      if (!(error instanceof RestError)) throw error;
      // This one route answers its errors as plain text.
      response.writeHead(error.status, { ...versionHeader, 'Content-Type': 'text/plain; charset=utf-8' });
      response.end(error.message);
      return;
    }
    // Node hands the whole answer to the kernel before this returns.
    sendEmpty(response, 204, {
      ...versionHeader,
      // On the way here the time of the request has grown old; the host corrects what this shows.
      ...(taken.clockUs === undefined ? {} : { [CLOCK_HEADER]: clockMs(taken.clockUs) }),
    });
    taken.finish();
  };
}

function authorize(token: string | undefined, { state }: AgentContext): void {
  if (state.accessToken === undefined) return;
  if (token === undefined) throw new RestError(401, 'access token reset not authorized');
  if (!secretsEqual(token, state.accessToken)) throw new RestError(401, 'access token validation failed');
}
