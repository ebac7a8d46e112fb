import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { NestboxError } from '@nestbox/contract';
import { HostService } from '@nestbox/contract/host';
import { createLogger } from '@nestbox/kit';
import type { HostAgent } from '../host-agent.ts';
import { createHostProxy } from '../proxy/host-proxy.ts';
import { listenForControlPlane } from './host-server.ts';

test('a stop lets calls under way come to their end, does not wait for the watch, and takes no new connection', async () => {
  const { promise: gate, resolve: letPass } = Promise.withResolvers<void>();
  const { promise: arrived, resolve: arrive } = Promise.withResolvers<void>();
  const logger = createLogger({ level: 'silent' });
  const unknown = {
    target: () => {
      throw new NestboxError('sandbox_not_found', 'There is none.');
    },
  };
  const host: Pick<HostAgent, 'proxy' | 'routes'> = {
    proxy: createHostProxy({ sandboxes: unknown, logger }),
    routes: (router) =>
      router.service(HostService, {
        getHost: async () => {
          arrive();
          await gate;
          return { hostId: 'h' };
        },
        watchSandboxes: async function* (_request, { signal }) {
          yield {};
          await new Promise((resolve) => signal.addEventListener('abort', resolve));
        },
      }),
  };
  const listener = await listenForControlPlane(host, { host: '127.0.0.1', port: 0 }, undefined, logger);
  const baseUrl = `http://127.0.0.1:${listener.port}`;
  const client = createClient(HostService, createConnectTransport({ baseUrl, httpVersion: '1.1' }));
  const watch = client.watchSandboxes({})[Symbol.asyncIterator]();
  await watch.next();
  const call = client.getHost({});
  await arrived;
  const drained = listener.drain(30_000);
  await assert.rejects(fetch(baseUrl));
  letPass();
  assert.equal((await call).hostId, 'h');
  await drained;
  const watchEnds = assert.rejects(watch.next());
  await listener.close();
  await watchEnds;

  const slow = await listenForControlPlane(host, { host: '127.0.0.1', port: 0 }, undefined, logger);
  const other = createClient(
    HostService,
    createConnectTransport({ baseUrl: `http://127.0.0.1:${slow.port}`, httpVersion: '1.1' }),
  );
  const held = other.watchSandboxes({})[Symbol.asyncIterator]();
  await held.next();
  await slow.drain(0);
  const ends = assert.rejects(held.next());
  await slow.close();
  await ends;
});
