import { type IncomingHttpHeaders, request } from 'node:http';
import { buffer } from 'node:stream/consumers';

export interface EdgeAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/**
 * Asks the edge as a browser would after resolving the sandbox's host name to it: by `Host` header. (fetch does not let its
 * caller set that header.)
 */
export function requestByHost(
  edgeUrl: string,
  host: string,
  path: string,
  options: { method?: string; headers?: Record<string, string>; body?: string | Uint8Array } = {},
): Promise<EdgeAnswer> {
  const { hostname, port } = new URL(edgeUrl);
  return new Promise((resolve, reject) => {
    const outgoing = request(
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
