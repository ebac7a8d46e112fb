import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import {
  type Agent,
  type ClientRequest,
  createServer,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  request,
  type Server,
} from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import type { TestContext } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { createLogger } from '@nestbox/kit';
import { createHostProxy, type HostProxy } from '../host-proxy.ts';
import { listenForProxyTraffic } from '../proxy-server.ts';

const logger = createLogger({ level: 'silent' });
export const SANDBOX_ID = 'i1';

export interface ProxyUnderTest {
  readonly proxy: HostProxy;
  readonly socketPath: string;
  readonly activities: { begun: number; open: number };
  ask(path: string, options?: AskOptions): Promise<Answer>;
  open(path: string, options?: AskOptions): ClientRequest;
}

export interface AskOptions {
  readonly method?: string;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: string | Buffer | Readable;
  readonly agent?: Agent;
}

export interface Answer {
  readonly response: IncomingMessage;
  readonly body: Buffer;
}

export async function startProxy(t: TestContext): Promise<ProxyUnderTest> {
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-proxy-'));
  const socketPath = join(folder, 'proxy.sock');
  const activities = { begun: 0, open: 0 };
  const proxy = createHostProxy({
    logger,
    dialBackoffMs: 5,
    sandboxes: {
      target(sandboxId) {
        if (sandboxId === 'full') throw new NestboxError('host_disk_full', 'no room');
        if (sandboxId !== SANDBOX_ID) throw new NestboxError('sandbox_not_found', `There is no sandbox ${sandboxId}.`);
        return {
          address: '127.0.0.1',
          beginActivity() {
            activities.begun += 1;
            activities.open += 1;
            return () => {
              activities.open -= 1;
            };
          },
        };
      },
    },
  });
  const listener = await listenForProxyTraffic(proxy, { socketPath }, logger);
  t.after(async () => {
    proxy.close();
    await listener.close();
    await rm(folder, { recursive: true, force: true });
  });
  const open = (path: string, options: AskOptions = {}) =>
    request({
      socketPath,
      path,
      method: options.method ?? 'GET',
      headers: { host: '8080-i1.sandbox.example', ...options.headers },
      ...(options.agent === undefined ? {} : { agent: options.agent }),
    });
  const ask = async (path: string, options: AskOptions = {}): Promise<Answer> => {
    const outgoing = open(path, options);
    const answered = once(outgoing, 'response');
    if (options.body instanceof Readable) options.body.pipe(outgoing);
    else outgoing.end(options.body);
    const [response]: IncomingMessage[] = await answered;
    assert.ok(response);
    return { response, body: await buffer(response) };
  };
  return { proxy, socketPath, activities, open, ask };
}

export async function startApp(
  t: TestContext,
  handler: Parameters<typeof createServer>[1],
): Promise<Server & { port: number }> {
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return Object.assign(server, { port: portOf(server) });
}

export function portOf(server: { address(): AddressInfo | string | null }): number {
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return address.port;
}

export const pathOf = (port: number, path: string, sandboxId = SANDBOX_ID) => `/proxy/${sandboxId}/${port}${path}`;

/** Sends bytes as they are and collects what comes until the other side closes. */
export async function raw(socketPath: string, bytes: string): Promise<string> {
  const socket = connect(socketPath);
  socket.write(bytes);
  return text(socket);
}
