import { createLogger } from '@nestbox/kit';
import type { Clock } from '../clock.ts';
import type { ControlPlane, ControlPlaneConfig } from '../config.ts';
import { startControlPlane } from '../start-control-plane.ts';
import type { HostDouble } from './host-double.ts';
import { testStore } from './test-store.ts';

export const TEST_API_KEY = `e2b_${'0123456789abcdef'.repeat(2)}01234567`;
export const TEST_SEED = 'seed of a test';

export interface TestServer extends ControlPlane, AsyncDisposable {
  /** `fetch` with the API key. */
  api(path: string, init?: RequestInit): Promise<Response>;
  /** The same with a JSON body. */
  send(method: string, path: string, body: unknown): Promise<Response>;
}

export interface TestServerOptions extends Partial<ControlPlaneConfig> {
  /** SQLite file, or what stands for it on PostgreSQL; in memory, or a new database, unless told otherwise. */
  readonly databasePath?: string;
}

/** A control plane on ports of its own. */
export async function startTestServer(
  hosts: readonly Pick<HostDouble, 'connection'>[],
  { databasePath = ':memory:', ...overrides }: TestServerOptions = {},
  clock?: Clock,
): Promise<TestServer> {
  const plane = await startControlPlane(
    {
      database: await testStore(databasePath),
      apiKey: TEST_API_KEY,
      tokenSeed: TEST_SEED,
      api: { host: '127.0.0.1', port: 0 },
      edge: { host: '127.0.0.1', port: 0 },
      hosts: hosts.map((host) => host.connection),
      logger: createLogger({ level: 'silent' }),
      // Tests leave requests behind that nobody waits for.
      stopTimeoutMs: 0,
      ...overrides,
    },
    clock,
  );
  const api = (path: string, init: RequestInit = {}) => {
    const headers = new Headers(init.headers);
    headers.set('X-API-Key', TEST_API_KEY);
    return fetch(plane.apiUrl + path, { ...init, headers });
  };
  return {
    ...plane,
    api,
    send: (method, path, body) =>
      api(path, { method, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) }),
    [Symbol.asyncDispose]: () => plane.stop(),
  };
}
