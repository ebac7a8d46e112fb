import type { IncomingMessage, ServerResponse } from 'node:http';

const ALLOWED_METHODS: ReadonlySet<string> = new Set(['HEAD', 'GET', 'POST', 'PUT', 'PATCH', 'DELETE']);
const EXPOSED_HEADERS = [
  'Content-Encoding',
  'Connect-Content-Encoding',
  'Grpc-Status',
  'Grpc-Message',
  'Grpc-Status-Details-Bin',
  'Location',
  'Cache-Control',
  'X-Content-Type-Options',
].join(', ');
const MAX_AGE_SECONDS = '7200';

/**
 * Lets web pages of any origin use the agent; the access token is what protects it. Answers a preflight and returns
 * true then.
 */
export function applyCors(request: IncomingMessage, response: ServerResponse): boolean {
  const { origin } = request.headers;
  const asked = request.headers['access-control-request-method'];
  if (request.method === 'OPTIONS' && asked !== undefined) {
    response.setHeader('Vary', 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers');
    if (origin !== undefined && ALLOWED_METHODS.has(asked)) {
      response.setHeader('Access-Control-Allow-Origin', '*');
      response.setHeader('Access-Control-Allow-Methods', asked);
      const headers = request.headers['access-control-request-headers'];
      if (headers !== undefined) response.setHeader('Access-Control-Allow-Headers', headers);
      response.setHeader('Access-Control-Max-Age', MAX_AGE_SECONDS);
    }
    response.writeHead(204);
    response.end();
    return true;
  }
  if (origin !== undefined) {
    response.setHeader('Access-Control-Allow-Origin', '*');
    response.setHeader('Access-Control-Expose-Headers', EXPOSED_HEADERS);
  }
  return false;
}
