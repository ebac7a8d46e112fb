import { type IncomingHttpHeaders, request } from 'node:http';
import { request as requestByTls } from 'node:https';
import { buffer } from 'node:stream/consumers';
import { WebSocket } from 'ws';

export interface EdgeAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/**
 * Asks the edge as a browser would after resolving the sandbox's host name to it: by `Host` header. (fetch does not let its
 * caller set that header.) With TLS it goes where the name leads, since the name is asked for in the hello already.
 */
export function requestByHost(
  edgeUrl: string,
  host: string,
  path: string,
  options: { method?: string; headers?: Record<string, string>; body?: string | Uint8Array } = {},
): Promise<EdgeAnswer> {
  const { protocol, hostname, port } = new URL(throughTls(edgeUrl) ? `https://${host}` : edgeUrl);
  return new Promise((resolve, reject) => {
    const outgoing = (protocol === 'https:' ? requestByTls : request)(
      { hostname, port, path, method: options.method ?? 'GET', headers: { ...options.headers, Host: host } },
      (incoming) => {
        buffer(incoming).then(
          (body) =>
            resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: body.toString('utf8') }),
          reject,
        );
      },
    );
    outgoing.once('error', reject);
    outgoing.end(options.body);
  });
}

/** The same for a WebSocket. */
export function openWebSocketByHost(edgeUrl: string, host: string, path: string): WebSocket {
  if (throughTls(edgeUrl)) return new WebSocket(`wss://${host}${path}`);
  return new WebSocket(`${edgeUrl.replace('http', 'ws')}${path}`, { headers: { Host: host } });
}

function throughTls(edgeUrl: string): boolean {
  return edgeUrl.startsWith('https:');
}
