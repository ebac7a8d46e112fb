import type { IncomingMessage, ServerResponse } from 'node:http';
import { ENVD_VERSION } from '@nestbox/contract';
import { RestError } from '../rest.ts';
import type { HostAddresses } from './host-addresses.ts';
import { CLOCK_HEADER, clockMs } from './init-route.ts';
import type { Lifecycle } from './lifecycle.ts';
import { readRestoreRequest } from './restore-request.ts';

/** Answers a request on its own, before anything else of the server looks at it. */
export type DirectHandler = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

/**
 * POST /restore: /init in the way that takes the least code, for the host alone. On an emulated processor each piece of code costs time
 * when it runs first, and here a user waits for all of it: this has no body, no JSON, no date, no URL and no object of headers.
 */
export function restoreHandler(lifecycle: Pick<Lifecycle, 'init'>, hostAddresses: HostAddresses): DirectHandler {
  return async (request, response) => {
    const { socket, method, rawHeaders } = request;
    if (!hostAddresses.includes(socket.remoteAddress)) throw new RestError(404, 'there is no such route');
    if (method !== 'POST') throw new RestError(405, `/restore does not answer ${method}`);
    const taken = await lifecycle.init(readRestoreRequest(rawHeaders), { connection: socket, isHost: true });
    const clock = taken.clockUs === undefined ? [] : [CLOCK_HEADER, clockMs(taken.clockUs)];
    response.sendDate = false;
    response.writeHead(204, ['X-Envd-Version', ENVD_VERSION, ...clock]);
    // Node hands the whole answer to the kernel before this returns.
    response.end();
    taken.finish();
  };
}
