import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NestboxError } from '@nestbox/contract';
import { authorityCertificates, authorityFiles } from '@nestbox/control-plane/tls';
import { createLogger } from '@nestbox/kit';
import { EdgeHandler } from '../../packages/control-plane/src/edge/edge-handler.ts';
import { openFront } from '../../packages/control-plane/src/edge/front-server.ts';
import { openEdge } from '../../packages/control-plane/src/edge/open-edge.ts';
import { createHostProxy, type HostProxy } from '../../packages/host-agent/src/proxy/host-proxy.ts';

export const SANDBOX_ID = 'istack00000000000000';
export const OTHER_SANDBOX_ID = 'iother00000000000000';
export const STACK_DOMAIN = 'nestbox.localhost';

/**
 * Edge, front with TLS and host proxy as `nestbox up` joins them, and in place of a VM the loopback address: every port of this
 * machine is a port of the sandbox. For what a guest cannot run or would run slowly.
 */
export interface ProxyStack extends AsyncDisposable {
  readonly edgePort: number;
  readonly frontPort: number;
  /** The authority's certificate. */
  readonly ca: string;
  readonly proxy: HostProxy;
  host(port: number): string;
}

export async function startProxyStack(): Promise<ProxyStack> {
  await using cleanup = new AsyncDisposableStack();
  const logger = createLogger({ level: 'silent' });
  const folder = await mkdtemp(join(tmpdir(), 'nestbox-stack-'));
  cleanup.defer(() => rm(folder, { recursive: true, force: true }));
  const proxy = createHostProxy({
    logger,
    dialBackoffMs: 20,
    sandboxes: {
      target: (sandboxId) => {
        if (sandboxId !== SANDBOX_ID) throw new NestboxError('sandbox_not_found', `There is no sandbox ${sandboxId}.`);
        return { address: '127.0.0.1', beginActivity: () => () => {} };
      },
    },
  });
  cleanup.defer(() => proxy.close());
  const route = {
    hostId: 'local',
    publicTraffic: true,
    maskRequestHost: undefined,
    httpsPorts: undefined,
    awake: true,
    wakes: false,
  };
  const edgeHandler = new EdgeHandler(
    {
      routes: {
        find: async (sandboxId) =>
          sandboxId === SANDBOX_ID || sandboxId === OTHER_SANDBOX_ID ? { ...route, sandboxId } : undefined,
      },
      tokens: { trafficToken: () => '' },
      proxies: { find: () => proxy },
      wake: async () => {},
    },
    logger,
  );
  const address = { host: '127.0.0.1', port: 0 };
  const edge = await openEdge(address, edgeHandler);
  cleanup.defer(() => edge.close());
  const source = authorityCertificates(folder, STACK_DOMAIN);
  const front = await openFront({
    address,
    domain: STACK_DOMAIN,
    certificate: await source.load(),
    edge: edgeHandler,
    api: { serve: (_request, response) => response.end('the API') },
  });
  cleanup.defer(() => front.close());
  const ca = await readFile(authorityFiles(folder, STACK_DOMAIN).caPath, 'utf8');
  const owned = cleanup.move();
  return {
    edgePort: Number(new URL(edge.url).port),
    frontPort: front.port,
    ca,
    proxy,
    host: (port) => `${port}-${SANDBOX_ID}.${STACK_DOMAIN}`,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A server of this process on a free port. */
export async function startApplication(
  listener: RequestListener,
): Promise<Server & { port: number } & AsyncDisposable> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return Object.assign(server, {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  });
}
