import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Code, ConnectError, createClient, createRouterTransport, type Transport } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { NESTBOX_VERSION, newSandboxId } from '@nestbox/contract';
import { HostService, SandboxState } from '@nestbox/contract/host';
import { fromRpcError } from '@nestbox/kit';
import { makeTestHost, TEST_LOGGER } from '../testing/test-host.ts';
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
