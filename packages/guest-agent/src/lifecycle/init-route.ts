import { networkInterfaces } from 'node:os';
import { ENVD_VERSION } from '@nestbox/contract';
import { secretsEqual } from '../auth.ts';
import type { AgentContext } from '../context.ts';
import { RestError, type RestHandler, readBody, sendEmpty } from '../rest.ts';
import { parseInitRequest } from './init-request.ts';
import type { Lifecycle } from './lifecycle.ts';

/** A CA bundle and a thousand variables fit many times. */
const MAX_BODY_BYTES = 4 * 1024 * 1024;

/**
 * POST /init. Who asks must know the present access token, unless there is none yet, or it is the host that asks: both
 * proxies refuse this path, so a request that comes from another machine is the host's own. (envd asks Firecracker's
 * metadata service for a hash of the new token instead, which other VMMs do not have.)
 */
export function initRoute(lifecycle: Lifecycle): RestHandler {
  return async (request, response, _url, context) => {
    const versionHeader = { 'X-Envd-Version': ENVD_VERSION };
    try {
      const init = parseInitRequest(await readBody(request, MAX_BODY_BYTES));
      const fromHost = context.isInit && !isOwnAddress(request.socket.remoteAddress);
      if (!fromHost) authorize(init.accessToken, context);
      await lifecycle.init(init, request.socket);
    } catch (error) {
      if (!(error instanceof RestError)) throw error;
      // This one route answers its errors as plain text.
      response.writeHead(error.status, { ...versionHeader, 'Content-Type': 'text/plain; charset=utf-8' });
      response.end(error.message);
      return;
    }
    sendEmpty(response, 204, versionHeader);
  };
}

function authorize(token: string | undefined, { state }: AgentContext): void {
  if (state.accessToken === undefined) return;
  if (token === undefined) throw new RestError(401, 'access token reset not authorized');
  if (!secretsEqual(token, state.accessToken)) throw new RestError(401, 'access token validation failed');
}

function isOwnAddress(address: string | undefined): boolean {
  if (address === undefined) return true;
  const plain = address.replace(/^::ffff:/, '');
  if (plain.startsWith('127.')) return true;
  return Object.values(networkInterfaces()).some((entries) => entries?.some((entry) => entry.address === plain));
}
