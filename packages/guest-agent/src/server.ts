import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { GUEST_INTERNAL_PATHS, GUEST_RESTORE } from '@nestbox/contract';
import { checkAccessToken } from './auth.ts';
import type { AgentContext } from './context.ts';
import { applyCors } from './cors.ts';
import type { DirectHandler } from './lifecycle/restore-route.ts';
import { RestError, type RestHandler, sendJson, sendRestError } from './rest.ts';
import { basicUserName } from './rpc/request-user.ts';
import type { RpcHandler } from './rpc/router.ts';
import { lookupUser } from './users.ts';

/** Handlers by path, then by method. */
export type RestRoutes = Readonly<Record<string, Readonly<Record<string, RestHandler>>>>;

const IDLE_TIMEOUT_MS = 640_000;

/** Requests that say nothing about whether the sandbox is in use. */
const SILENT_PATHS: ReadonlySet<string> = new Set([...GUEST_INTERNAL_PATHS, '/health', '/metrics']);

/** The agent's one HTTP server: /restore at once, else CORS, then the access token, then the user of Basic credentials, then the routes. */
export function createAgentServer(
  context: AgentContext,
  rpc: RpcHandler,
  routes: RestRoutes,
  restore: DirectHandler,
): Server {
  const server = createServer((request, response) => {
    // A body that an early answer (507, 401) left unread would keep the connection's next request from being seen.
    response.once('finish', () => request.resume());
    context.compilers?.count();
    const answered = request.url === GUEST_RESTORE.path ? restore(request, response) : answer(request, response);
    answered.catch((error: unknown) => sendRestError(response, error));
  });
  server.keepAliveTimeout = IDLE_TIMEOUT_MS;
  // Commands run and files stream for as long as they like.
  server.requestTimeout = 0;
  server.timeout = 0;
  return server;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (applyCors(request, response)) return;
    const url = parseTarget(request.url);
    const path = url.pathname;
    checkAccessToken(request, path, context.state.accessToken);
    if (!SILENT_PATHS.has(path)) response.once('close', context.activity.begin());
    if (rpc.serves(path)) {
      rpc.handle(request, response);
      return;
    }
    const userName = basicUserName(request.headers.authorization);
    if (userName !== undefined && lookupUser(userName) === undefined) {
      // The form of a Connect error, as envd's middleware answers on every route.
      sendJson(response, 401, { code: 'unauthenticated', message: `invalid username: '${userName}'` });
      return;
    }
    await route(request)(request, response, url, context);

    function route({ method = '' }: IncomingMessage): RestHandler {
      const handlers = Object.hasOwn(routes, path) ? routes[path] : undefined;
      if (handlers === undefined) throw new RestError(404, `there is no route ${path}`);
      const handler = Object.hasOwn(handlers, method) ? handlers[method] : undefined;
      if (handler !== undefined) return handler;
      response.setHeader('Allow', Object.keys(handlers).join(', '));
      throw new RestError(405, `${path} does not answer ${method}`);
    }
  }
}

function parseTarget(target = '/'): URL {
  try {
    // Absolute and `//host` forms must not be taken apart as relative ones: the path decides over access.
    return new URL(target.startsWith('/') ? `http://localhost${target}` : target);
  } catch (cause) {
    throw new RestError(400, 'the request target is not a URL', { cause });
  }
}
