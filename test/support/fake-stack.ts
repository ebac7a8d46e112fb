import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createRouterTransport, type Transport } from '@connectrpc/connect';
import { z } from 'zod';
import {
  startTestServer,
  TEST_API_KEY,
  type TestServer,
} from '../../packages/control-plane/src/testing/start-test-server.ts';
import type { HostAgent } from '../../packages/host-agent/src/host-agent.ts';
import { makeTestHost, type TestHost } from '../../packages/host-agent/src/testing/test-host.ts';
import { readProcessState } from '../../packages/host-agent/src/vmm/processes.ts';
import { type Answer, answerOf } from './answer-of.ts';

export type { Answer };

export type Rest = 'running' | 'paused' | 'gone';

/** The real control plane and the real host agent, joined as `nestbox up` joins them; VMs are processes (the fake driver). */
export interface FakeStack extends AsyncDisposable {
  readonly testHost: TestHost;
  readonly agent: HostAgent;
  readonly server: TestServer;
  call(method: string, path: string, body?: unknown): Promise<Answer>;
  /** A running sandbox with something of its own in its memory. */
  create(options?: object): Promise<string>;
  /** Names of the calls to the host that were answered, in that order. */
  readonly answered: readonly string[];
  remembers(sandboxId: string): Promise<string>;
  /**
   * What has become of a sandbox, when control plane, host, disk and kernel say the same and nothing is on its way any more. Fails
   * when they do not come to agree.
   */
  rest(sandboxId: string): Promise<Rest>;
  /** Ends every sandbox and deletes every snapshot; fails when anything is left after that. */
  endAll(): Promise<void>;
}

export interface FakeStackOptions {
  /** How long a call to the host may take, in place of what the control plane allows. */
  readonly callTimeoutMs?: () => number | undefined;
}

const AGREE_MS = 15_000;
const made = z.object({ sandboxID: z.string() });

export async function startFakeStack(t: TestContext, options: FakeStackOptions = {}): Promise<FakeStack> {
  const testHost = await makeTestHost(t);
  const agent = await testHost.start();
  const { layout, paths } = testHost;
  const answered: string[] = [];
  const server = await startTestServer(
    [
      {
        connection: {
          id: 'local',
          transport: watched(createRouterTransport(agent.routes), options, (name) => answered.push(name)),
          proxyAddress: { handler: agent.proxy },
        },
      },
    ],
    { databasePath: join(paths.stateDir, 'nestbox.db') },
  );
  const call = (method: string, path: string, body?: unknown) =>
    answerOf(server.apiUrl, TEST_API_KEY, method, path, body);

  const shown = async (sandboxId: string): Promise<string> => {
    const { status, body } = await call('GET', `/sandboxes/${sandboxId}`);
    if (status === 404) return 'gone';
    return z.object({ state: z.string() }).parse(body).state;
  };
  const atHost = (sandboxId: string) =>
    agent.manager.list().find((sandbox) => sandbox.sandboxId === sandboxId)?.state ?? 'gone';

  /** What disk and kernel have of it, and what of that does not belong to its state. */
  const onDisk = async (sandboxId: string): Promise<string> => {
    if (!existsSync(layout.sandboxDir(sandboxId)))
      return existsSync(layout.sandboxRunDir(sandboxId)) ? 'a run folder without a sandbox' : 'gone';
    const { situation } = await testHost.record(sandboxId);
    const wrong: string[] = [];
    const strange = readdirSync(layout.sandboxDir(sandboxId)).filter((name) => /\.(tmp|new)$/.test(name));
    wrong.push(...strange);
    const hasState = existsSync(layout.sandboxPauseDir(sandboxId));
    if (situation.state === 'running') {
      const vm = readProcessState(situation.vm.process.pid);
      if (vm === undefined || vm === 'T' || vm === 'Z') wrong.push(`its VM is ${vm ?? 'gone'}`);
      if (hasState) wrong.push('the state of a pause');
      if (!testHost.networks.inUse.has(situation.slot.index)) wrong.push('no network');
    }
    if (situation.state === 'paused') {
      wrong.push(...readdirSync(layout.sandboxDir(sandboxId)).filter((name) => name.endsWith('.next')));
      if (situation.memory !== hasState) wrong.push(`memory: ${situation.memory}, state: ${hasState}`);
      if (existsSync(layout.sandboxRunDir(sandboxId))) wrong.push('a run folder');
    }
    return wrong.length === 0 ? situation.state : `${situation.state}, but ${wrong.join(', ')}`;
  };

  const rest = async (sandboxId: string): Promise<Rest> => {
    let views: readonly string[] = [];
    for (const endsAt = performance.now() + AGREE_MS; performance.now() < endsAt; await sleep(10)) {
      views = [await shown(sandboxId), atHost(sandboxId), await onDisk(sandboxId).catch(String)];
      const [first] = views;
      if (views.every((view) => view === first) && isRest(first)) return first;
    }
    assert.fail(`control plane, host and disk do not agree on ${sandboxId}: ${views.join('; ')}`);
  };

  return {
    testHost,
    agent,
    server,
    answered,
    call,
    rest,
    async create(body = {}) {
      const { status, body: answer } = await call('POST', '/sandboxes', { templateID: 'base', timeout: 600, ...body });
      assert.equal(status, 201, JSON.stringify(answer));
      const { sandboxID } = made.parse(answer);
      await testHost.memoryOf(sandboxID).write(`memory of ${sandboxID}`);
      return sandboxID;
    },
    remembers: (sandboxId) => testHost.memoryOf(sandboxId).read(),
    async endAll() {
      const listed = z.array(made).parse((await call('GET', '/v2/sandboxes')).body);
      for (const { sandboxID } of listed)
        assert.equal((await call('DELETE', `/sandboxes/${sandboxID}`)).status, 204, sandboxID);
      const snapshots = z.array(z.object({ snapshotID: z.string() })).parse((await call('GET', '/snapshots')).body);
      for (const { snapshotID } of snapshots)
        assert.equal((await call('DELETE', `/templates/${encodeURIComponent(snapshotID)}`)).status, 204, snapshotID);
      let left: readonly string[] = [];
      for (const endsAt = performance.now() + AGREE_MS; performance.now() < endsAt; await sleep(10)) {
        left = [
          ...(await testHost.leftovers()),
          ...agent.manager.list().map(({ sandboxId, state }) => `${sandboxId} is ${state} at its host`),
          ...readdirSync(layout.templatesDir)
            .slice(1)
            .map((name) => `template ${name}`),
        ];
        if (left.length === 0) return;
      }
      assert.deepEqual(left, []);
    },
    [Symbol.asyncDispose]: () => server.stop(),
  };
}

function isRest(view: string | undefined): view is Rest {
  return view === 'running' || view === 'paused' || view === 'gone';
}

function watched(
  transport: Transport,
  { callTimeoutMs }: FakeStackOptions,
  onAnswer: (name: string) => void,
): Transport {
  return {
    async unary(method, signal, timeoutMs, ...others) {
      try {
        return await transport.unary(method, signal, callTimeoutMs?.() ?? timeoutMs, ...others);
      } finally {
        onAnswer(method.name);
      }
    },
    stream: (method, signal, given, ...others) => transport.stream(method, signal, given, ...others),
  };
}
