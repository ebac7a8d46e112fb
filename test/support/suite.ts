import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import type { NestboxPaths } from '@nestbox/kit';
import { Sandbox, type SandboxOpts } from 'e2b';
import { findLeftovers } from './leftovers.ts';
import { startServer, type TestServer } from './server.ts';
import { makeStateFolder } from './state-folder.ts';

/** Long enough for any one test, short enough that what a crashed test run leaves does not stay for long. */
export const SUITE_SANDBOX_TIMEOUT_MS = 10 * 60_000;

export interface ServerInUse {
  readonly server: TestServer;
  readonly paths: NestboxPaths;
  /** Makes a sandbox by the real client. It ends with the suite at the latest. */
  createSandbox(options?: SandboxOpts): Promise<Sandbox>;
}

/**
 * For the body of `describe`: a server for the suite's tests. After the last of them it is ended by SIGTERM, and nothing
 * of it or of its sandboxes may be left.
 */
export function useServer(args: readonly string[] = []): ServerInUse {
  let state: { server: TestServer; paths: NestboxPaths & AsyncDisposable } | undefined;
  before(async () => {
    await using undo = new AsyncDisposableStack();
    const paths = undo.use(await makeStateFolder());
    state = { paths, server: await startServer(paths, args) };
    undo.move();
  });
  after(async () => {
    if (state === undefined) return;
    await using _folder = state.paths;
    const exitCode = await state.server.end('SIGTERM');
    assert.equal(exitCode, 0, state.server.log());
    assert.deepEqual(await findLeftovers(state.paths), []);
  });
  const inUse = () => {
    if (state === undefined) throw new Error('the server is there from the first test on, not before');
    return state;
  };
  return {
    get server() {
      return inUse().server;
    },
    get paths() {
      return inUse().paths;
    },
    createSandbox: (options) =>
      Sandbox.create({ timeoutMs: SUITE_SANDBOX_TIMEOUT_MS, ...inUse().server.connection, ...options }),
  };
}

/** As `useServer`, with one sandbox for all tests of the suite. */
export function useSandbox(options?: SandboxOpts): ServerInUse & { readonly sandbox: Sandbox } {
  const inUse = useServer();
  let sandbox: Sandbox | undefined;
  before(async () => {
    sandbox = await inUse.createSandbox(options);
  });
  return Object.defineProperty(inUse, 'sandbox', {
    get: () => {
      if (sandbox === undefined) throw new Error('the sandbox is there from the first test on, not before');
      return sandbox;
    },
  }) as ServerInUse & { readonly sandbox: Sandbox };
}
