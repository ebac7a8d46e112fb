import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import type { TestContext } from 'node:test';
import type { Endpoints } from '../client/endpoints.ts';

export type Answer = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>;

/** An HTTP server of a test's own in place of a control API; it ends with the test. */
export async function startStubApi(t: TestContext, answer: Answer): Promise<Endpoints> {
  const server = createServer((request, response) => void answer(request, response)).listen(0, '127.0.0.1');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  await once(server, 'listening');
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  return { apiUrl: `http://127.0.0.1:${address.port}`, sandboxUrl: undefined, apiKey: 'e2b_key' };
}

export interface SeenRequest {
  /** Method and path, without the query. */
  readonly route: string;
  readonly query: URLSearchParams;
  /** Undefined: it had no body. */
  readonly json: unknown;
}

export interface StubAnswer {
  /** Default 200. */
  readonly status?: number;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export type StubRoutes = Readonly<Record<string, StubAnswer | ((request: SeenRequest) => StubAnswer)>>;

/** Answers by `METHOD /path`; what is in no route is 404, as by a server that does not know the question. */
export function answerByRoute(routes: StubRoutes, seen: SeenRequest[] = []): Answer {
  return async (request, response) => {
    const url = new URL(request.url ?? '/', 'http://stub');
    const content = await text(request);
    const asked: SeenRequest = {
      route: `${request.method} ${url.pathname}`,
      query: url.searchParams,
      json: content === '' ? undefined : JSON.parse(content),
    };
    seen.push(asked);
    const route = routes[asked.route] ?? {
      status: 404,
      body: { code: 404, error_code: 'not_found', message: `There is no route ${asked.route}.` },
    };
    const { status = 200, body, headers = {} } = typeof route === 'function' ? route(asked) : route;
    response.writeHead(status, { ...headers }).end(body === undefined ? '' : JSON.stringify(body));
  };
}
