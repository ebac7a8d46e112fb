import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { Activity } from '../activity.ts';
import type { AgentContext } from '../context.ts';
import { sendRestError } from '../rest.ts';
import { AgentState } from '../state.ts';
import { fileRoutes } from './routes.ts';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface Call {
  readonly method?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: Buffer | string | Readable;
}

/** The file routes on a real server, with a folder of their own for the files; for tests. */
export interface FilesServer extends AsyncDisposable {
  readonly origin: string;
  readonly root: string;
  readonly state: AgentState;
  /** One request on a connection of its own, with no header but the given ones. */
  call(path: string, call?: Call): Promise<Answer>;
  url(path: string, query?: Readonly<Record<string, string>>): URL;
}

export async function startFilesServer(): Promise<FilesServer> {
  await using cleanup = new AsyncDisposableStack();
  const root = await mkdtemp(join(tmpdir(), 'nestbox-files-'));
  cleanup.defer(() => rm(root, { recursive: true, force: true }));
  const state = new AgentState();
  const context: AgentContext = { state, activity: new Activity(), runtimeDir: '/nonexistent', isInit: false };
  const server = createServer((incoming, response) => {
    const url = new URL(`http://localhost${incoming.url ?? ''}`);
    const handler = fileRoutes[url.pathname]?.[incoming.method ?? ''];
    handler?.(incoming, response, url, context).catch((error: unknown) => sendRestError(response, error));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanup.defer(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const url = (path: string, query: Readonly<Record<string, string>> = {}) =>
    new URL(`${path}?${new URLSearchParams(query)}`, origin);

  async function call(path: string, { method = 'GET', query, headers = {}, body }: Call = {}): Promise<Answer> {
    const outgoing = request(url(path, query), { method, headers, agent: false });
    // A server may answer and close before it has taken the whole body.
    outgoing.on('error', () => undefined);
    if (body instanceof Readable) body.pipe(outgoing);
    else outgoing.end(body);
    const [response] = await once(outgoing, 'response');
    return { status: response.statusCode, headers: response.headers, body: await buffer(response) };
  }

  const owned = cleanup.move();
  return { origin, root, state, call, url, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
