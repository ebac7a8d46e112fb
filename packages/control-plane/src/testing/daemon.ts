import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { z } from 'zod';
import type { HostDouble } from './host-double.ts';

export const DAEMON = join(import.meta.dirname, '..', 'main.ts');
export const HOST_TOKEN = 'token of the host agent';

/** A host agent on HTTP that asks for its token. */
export async function listenAsHost(host: HostDouble): Promise<{ url: string; server: Server; refused: () => number }> {
  let refused = 0;
  const rpc = connectNodeAdapter({ routes: (router) => host.routes(router) });
  const server = createServer((request, response) => {
    if (request.headers.authorization === `Bearer ${HOST_TOKEN}`) rpc(request, response);
    else {
      refused += 1;
      response.writeHead(401).end();
    }
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  return { url: `http://127.0.0.1:${address.port}`, server, refused: () => refused };
}

const readyLine = z.object({ msg: z.literal('Ready'), apiUrl: z.string(), edgeUrl: z.string() });

export interface Daemon {
  readonly child: ChildProcess;
  readonly apiUrl: string;
  readonly edgeUrl: string;
}

/** The control plane as a process of its own; resolves when it is ready. */
export async function startDaemon(configPath: string, env: NodeJS.ProcessEnv = process.env): Promise<Daemon> {
  const child = spawn(process.execPath, [DAEMON, configPath], { stdio: ['ignore', 'ignore', 'pipe'], env });
  const lines: string[] = [];
  for await (const line of createInterface({ input: child.stderr })) {
    lines.push(line);
    const ready = readyLine.safeParse(line.startsWith('{') ? JSON.parse(line) : undefined);
    if (ready.success) {
      child.stderr.resume();
      return { child, ...ready.data };
    }
  }
  throw new Error(`The daemon did not start: ${lines.join('\n')}`);
}
