import assert from 'node:assert/strict';
import { availableParallelism, machine } from 'node:os';
import { describe, test } from 'node:test';
import { Code, ConnectError, createClient, createRouterTransport, type Transport } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { NESTBOX_VERSION, NestboxError, newSandboxId } from '@nestbox/contract';
import { HostService, SandboxState } from '@nestbox/contract/host';
import { fromRpcError } from '@nestbox/kit';
import { until } from '../testing/sandbox-checks.ts';
import { makeTestHost, TEST_LOGGER, TEST_TEMPLATE_ID } from '../testing/test-host.ts';
import { listenForControlPlane } from './host-server.ts';

function withCode(code: string) {
  return (error: unknown) => error instanceof ConnectError && fromRpcError(error).code === code;
}

const request = (sandboxId = newSandboxId()) => ({ sandboxId, templateId: 'base', allowInternetAccess: true });

describe('host.v1', () => {
  test('creates, shows, watches, measures and destroys a sandbox, in memory', async (t) => {
    const host = await (await makeTestHost(t)).start();
    const client = createClient(HostService, createRouterTransport(host.routes));
    const about = await client.getHost({});
    assert.equal(about.vmm, 'fake');
    assert.equal(about.version, NESTBOX_VERSION);
    assert.match(about.hostId, /^[0-9a-f]{16}$/);
    assert.deepEqual(
      (await client.listTemplates({})).templates.map(({ templateId, names }) => ({ templateId, names })),
      [{ templateId: 'base00000000000000t1', names: ['base'] }],
    );

    const caller = new AbortController();
    const seen: (string | SandboxState)[] = [];
    const watching = (async () => {
      for await (const { event } of client.watchSandboxes({}, { signal: caller.signal })) {
        if (event.case === 'snapshot') seen.push(`list of ${event.value.sandboxes.length}`);
        if (event.case === 'changed') seen.push(event.value.state);
        if (event.case === 'changed' && event.value.state === SandboxState.GONE) {
          assert.equal(event.value.reason, 'It was destroyed.');
          caller.abort();
        }
      }
    })().catch((error: unknown) => assert.equal(ConnectError.from(error).code, Code.Canceled));

    const { sandbox } = await client.createSandbox(request());
    assert.equal(sandbox?.state, SandboxState.RUNNING);
    assert.equal(sandbox?.memoryMib, 512);
    assert.ok(Number(sandbox?.createdAtMs) > Date.now() - 60_000);
    const sandboxId = sandbox?.sandboxId ?? '';
    assert.deepEqual((await client.getSandbox({ sandboxId })).sandbox, sandbox);
    assert.equal((await client.listSandboxes({})).sandboxes.length, 1);
    assert.equal((await client.getHost({})).sandboxCount, 1);
    const metrics = await client.getSandboxMetrics({ sandboxId });
    assert.deepEqual(
      [metrics.timestampMs, metrics.memTotalBytes, metrics.cpuUsedPct],
      [1_700_000_000_000n, 512n, 12.5],
    );
    assert.equal((await client.destroySandbox({ sandboxId })).destroyed, true);
    assert.equal((await client.destroySandbox({ sandboxId })).destroyed, false);
    await watching;
    assert.equal(seen[0], 'list of 0');
    assert.equal(seen.at(-1), SandboxState.GONE);
  });

  test('tells what the machine is, what is used of it and how creates came out', async (t) => {
    const testHost = await makeTestHost(t);
    const host = await testHost.start();
    const client = createClient(HostService, createRouterTransport(host.routes));
    const before = await client.getHost({});
    assert.partialDeepStrictEqual(before, { sandboxCount: 0, cpuCount: availableParallelism() });
    assert.equal(before.processor?.architecture, machine());
    assert.match(before.instanceId, /^[0-9a-f-]{36}$/);
    assert.equal((await client.getHost({})).instanceId, before.instanceId);

    const { sandbox } = await client.createSandbox(request());
    const kept = await client.createSandbox(request());
    testHost.failures.startError = new NestboxError('vm_died', 'it did not start');
    await assert.rejects(client.createSandbox(request()), withCode('vm_died'));
    delete testHost.failures.startError;
    const sandboxId = sandbox?.sandboxId ?? '';
    await client.pauseSandbox({ sandboxId, memory: true });

    const { usage, ...about } = await client.getHost({});
    assert.equal(about.sandboxCount, 1, 'a paused one takes no memory');
    assert.partialDeepStrictEqual(usage, {
      allocatedVcpus: kept.sandbox?.vcpuCount ?? 0,
      allocatedMemoryBytes: BigInt(kept.sandbox?.memoryMib ?? 0) * 1_048_576n,
      startingSandboxCount: 0,
      pausedSandboxCount: 1,
      createsSucceeded: 2n,
      createsFailed: 1n,
    });
    assert.ok(usage !== undefined && usage.cpuPercent <= 100);
    assert.ok(usage.memoryUsedBytes > 0n && usage.memoryUsedBytes < about.memoryBytes);
    assert.ok(Math.abs(Number(usage.measuredAtMs) - Date.now()) < 60_000);
    const [disk] = usage.fileSystems;
    assert.ok(disk !== undefined && testHost.paths.stateDir.startsWith(disk.mountPoint) && disk.totalBytes > 0n);
    await host.stop();
    const again = createClient(HostService, createRouterTransport((await testHost.start()).routes));
    const restarted = await again.getHost({});
    assert.equal(restarted.hostId, before.hostId);
    assert.notEqual(restarted.instanceId, before.instanceId);
    assert.equal(restarted.usage?.createsSucceeded, 0n);
  });

  test('pauses, resumes, forks and snapshots a sandbox, and tells where time and space went', async (t) => {
    const testHost = await makeTestHost(t);
    const host = await testHost.start({ warm: [{ templateId: 'base', count: 1 }] });
    const client = createClient(HostService, createRouterTransport(host.routes));
    const { sandbox } = await client.createSandbox({ ...request(), accessToken: 'secret' });
    const sandboxId = sandbox?.sandboxId ?? '';
    const paused = await client.pauseSandbox({ sandboxId, memory: true });
    assert.partialDeepStrictEqual(paused.sandbox, { sandboxId, state: SandboxState.PAUSED, pausedMemory: true });
    assert.ok(paused.stages.some(({ name, durationMs }) => name === 'save' && durationMs >= 0));
    assert.equal((await client.getSandboxActivity({ sandboxId })).runningCommands, 0);
    await assert.rejects(client.pauseSandbox({ sandboxId, memory: true }), withCode('sandbox_paused'));
    const resumed = await client.resumeSandbox({ sandboxId, memory: true });
    assert.partialDeepStrictEqual(resumed.sandbox, { sandboxId, state: SandboxState.RUNNING, pausedMemory: false });
    assert.ok(resumed.stages.some(({ name }) => name === 'restore'));
    assert.partialDeepStrictEqual(await client.getSandboxActivity({ sandboxId }), {
      runningCommands: 3,
      openConnections: 2,
    });

    const copies = [newSandboxId(), newSandboxId()].map((id) => ({ sandboxId: id, accessToken: 'token' }));
    testHost.failures.restoreError = new NestboxError('vm_died', 'it did not load');
    const failed = await client.forkSandbox({ sandboxId, copies });
    assert.deepEqual(
      failed.outcomes.map(({ outcome }) => outcome.case === 'failure' && [outcome.value.code, outcome.value.message]),
      [
        ['vm_died', 'it did not load'],
        ['vm_died', 'it did not load'],
      ],
    );
    delete testHost.failures.restoreError;
    const forked = await client.forkSandbox({ sandboxId, copies });
    assert.deepEqual(
      forked.outcomes.map(({ outcome }) => outcome.case === 'sandbox' && outcome.value.sandboxId),
      copies.map((copy) => copy.sandboxId),
    );

    await until('a VM that waits', () => host.manager.warmSandboxIds(TEST_TEMPLATE_ID).length === 1);
    const { template } = await client.snapshotSandbox({ sandboxId, templateId: 'snap', names: ['mine:latest'] });
    const told = { templateId: 'snap', names: ['mine:latest'], originSandboxId: sandboxId, hasMemory: true };
    assert.partialDeepStrictEqual(template, told);
    const { templates } = await client.listTemplates({});
    assert.partialDeepStrictEqual(
      templates.find(({ templateId }) => templateId === 'snap'),
      told,
    );
    const base = templates.find(({ names }) => names.includes('base'));
    assert.equal(base?.originSandboxId, '');
    assert.equal(base?.warmSandboxIds.length, 1);

    const { operations } = await client.getSandboxTrace({ sandboxId });
    assert.deepEqual(
      operations.map(({ name, error }) => `${name} ${error === '' ? 'worked' : 'failed'}`),
      ['snapshot', 'fork', 'fork', 'resume', 'pause', 'pause', 'create'].map((name, index) =>
        index === 4 ? `${name} failed` : `${name} worked`,
      ),
    );
    assert.ok(Number(operations[0]?.startedAtMs) > Date.now() - 60_000);
    const usage = await client.getDiskUsage({});
    assert.ok(usage.freeBytes > 0n && usage.freeBytes < usage.totalBytes);
    assert.deepEqual(
      usage.items.filter(({ kind }) => kind === 'snapshot').map(({ id, name }) => ({ id, name })),
      [{ id: 'snap', name: 'mine:latest' }],
    );
    assert.equal((await client.deleteTemplate({ templateId: 'snap' })).deleted, true);
    assert.equal((await client.deleteTemplate({ templateId: 'snap' })).deleted, false);
    await assert.rejects(client.deleteTemplate({ templateId: 'base' }), withCode('conflict'));
  });

  test('answers errors with their stable code', async (t) => {
    const host = await (await makeTestHost(t)).start();
    const client = createClient(HostService, createRouterTransport(host.routes));
    const unknown = { sandboxId: newSandboxId() };
    await assert.rejects(client.getSandbox(unknown), withCode('sandbox_not_found'));
    await assert.rejects(client.getSandboxMetrics(unknown), withCode('sandbox_not_found'));
    await assert.rejects(client.createSandbox({ ...request(), templateId: 'nope' }), withCode('template_not_found'));
    for (const bad of [
      request('../../etc'),
      request(''),
      request('I'),
      { ...request(), templateId: '' },
      { ...request(), templateId: '../base' },
      { ...request(), envVars: { 'A=B': 'x' } },
      { ...request(), envVars: { '': 'x' } },
      { ...request(), envVars: { A: 'x\0y' } },
      { ...request(), accessToken: 'two\r\nlines' },
    ])
      await assert.rejects(client.createSandbox(bad), withCode('invalid_request'), JSON.stringify(bad));
    await assert.rejects(client.destroySandbox({ sandboxId: '..' }), withCode('invalid_request'));
    for (const call of [client.pauseSandbox, client.resumeSandbox]) {
      await assert.rejects(call({ ...unknown, memory: true }), withCode('sandbox_not_found'));
      await assert.rejects(call({ sandboxId: '..', memory: true }), withCode('invalid_request'));
    }
    const copy = () => ({ sandboxId: newSandboxId(), accessToken: '' });
    await assert.rejects(client.forkSandbox({ ...unknown, copies: [copy()] }), withCode('sandbox_not_found'));
    for (const copies of [
      [],
      Array.from({ length: 101 }, copy),
      [{ sandboxId: '../..', accessToken: '' }],
      [{ ...copy(), accessToken: 'two\r\nlines' }],
    ])
      await assert.rejects(client.forkSandbox({ ...unknown, copies }), withCode('invalid_request'));
    const named = { ...unknown, templateId: 'snap', names: ['mine'] };
    await assert.rejects(client.snapshotSandbox(named), withCode('sandbox_not_found'));
    for (const bad of [
      { templateId: '..' },
      { templateId: '' },
      { templateId: 'x'.repeat(41) },
      { names: ['Mine'] },
      { names: [''] },
      { names: Array.from({ length: 17 }, (_, index) => `n${index}`) },
    ])
      await assert.rejects(client.snapshotSandbox({ ...named, ...bad }), withCode('invalid_request'));
    assert.deepEqual(await client.deleteTemplate({ templateId: '../sandboxes' }), {
      deleted: false,
      $typeName: 'nestbox.host.v1.DeleteTemplateResponse',
    });
  });
});

describe('the listener for a control plane elsewhere', () => {
  const withToken = (port: number | undefined, headers: Record<string, string>): Transport =>
    createConnectTransport({
      httpVersion: '1.1',
      baseUrl: `http://127.0.0.1:${port}`,
      interceptors: [
        (next) => (call) => {
          for (const [name, value] of Object.entries(headers)) call.header.set(name, value);
          return next(call);
        },
      ],
    });

  test('serves RPC and proxy traffic to those who have the token, and nothing to others', async (t) => {
    const host = await (await makeTestHost(t)).start();
    const token = 'a token of this host';
    const listener = await listenForControlPlane(host, { host: '127.0.0.1', port: 0 }, token, TEST_LOGGER);
    t.after(() => listener.close());
    for (const headers of [{ authorization: `Bearer ${token}` }, { 'x-nestbox-host-token': token }]) {
      const client = createClient(HostService, withToken(listener.port, headers));
      assert.equal((await client.getHost({})).vmm, 'fake');
    }
    for (const headers of [{}, { authorization: 'Bearer wrong' }, { 'x-nestbox-host-token': '' }]) {
      const client = createClient(HostService, withToken(listener.port, headers));
      await assert.rejects(
        client.getHost({}),
        (error: unknown) => ConnectError.from(error).code === Code.Unauthenticated,
      );
    }

    const client = createClient(HostService, withToken(listener.port, { authorization: `Bearer ${token}` }));
    const { sandbox } = await client.createSandbox(request());
    const url = `http://127.0.0.1:${listener.port}/proxy/${sandbox?.sandboxId}/49983/health`;
    assert.equal((await fetch(url, { headers: { 'x-nestbox-host-token': token } })).status, 204);
    // There, Authorization is the application's.
    const refused = await fetch(url, { headers: { authorization: `Bearer ${token}` } });
    assert.equal(refused.status, 401);
    assert.match(await refused.text(), /"error_code":"unauthorized"/);
    const internal = url.replace('/health', '/init');
    assert.equal((await fetch(internal, { method: 'POST', headers: { 'x-nestbox-host-token': token } })).status, 404);
  });
});
