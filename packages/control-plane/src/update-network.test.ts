import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { toRpcError } from '@nestbox/kit';
import { Sandbox } from 'e2b';
import { createSandbox, readDetail, readError } from './testing/api-answers.ts';
import { HostDouble } from './testing/host-double.ts';
import { startTestServer, TEST_API_KEY } from './testing/start-test-server.ts';

describe('where a sandbox may connect to', () => {
  test('is told to the host with the create, told again by info, and replaced as a whole by the e2b client', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const sandbox = await Sandbox.create({
      apiUrl: server.apiUrl,
      sandboxUrl: server.edgeUrl,
      apiKey: TEST_API_KEY,
      network: {
        allowOut: ['1.1.1.1', '8.8.8.0/24', '*.example.com'],
        denyOut: ({ allTraffic }) => [allTraffic],
        maskRequestHost: 'localhost:3000',
      },
    });
    assert.deepEqual(host.created[0]?.allowOut, ['1.1.1.1', '8.8.8.0/24', '*.example.com']);
    assert.deepEqual(host.created[0]?.denyOut, ['0.0.0.0/0']);
    assert.deepEqual((await sandbox.getInfo()).network?.allowOut, ['1.1.1.1', '8.8.8.0/24', '*.example.com']);

    await sandbox.updateNetwork({ denyOut: ['9.9.9.9'] });
    const told = host.egressOf.get(sandbox.sandboxId);
    assert.deepEqual([told?.allowInternetAccess, told?.allowOut, told?.denyOut], [true, [], ['9.9.9.9']]);
    const { network } = await sandbox.getInfo();
    assert.deepEqual([network?.allowOut, network?.denyOut], [undefined, ['9.9.9.9']]);
    assert.equal(network?.maskRequestHost, 'localhost:3000');

    await sandbox.updateNetwork({ allowInternetAccess: false });
    assert.equal(host.egressOf.get(sandbox.sandboxId)?.allowInternetAccess, false);
    assert.equal((await sandbox.getInfo()).allowInternetAccess, false);
  });

  test('stays as it was when an update is refused, by the server or by the host', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server, { network: { denyOut: ['9.9.9.9'] } });
    const before = await readDetail(server, id);
    const cases: [unknown, string][] = [
      [{ allowOut: ['a.com'] }, 'invalid_request'],
      [{ denyOut: ['a.com'] }, 'invalid_request'],
      [{ denyOut: 'a.com' }, 'invalid_request'],
      [{ denyOut: [1] }, 'invalid_request'],
      [{ rules: { 'a.com': [{ transform: { headers: {} } }] } }, 'not_supported'],
      [{ egressProxy: { address: 'a.com:1080' } }, 'not_supported'],
      [{ dnsServers: ['1.1.1.1'] }, 'not_supported'],
    ];
    for (const [body, code] of cases)
      assert.equal((await readError(await server.send('PUT', `/sandboxes/${id}/network`, body))).code, code);
    assert.equal(host.egressOf.size, 0);
    host.egressError = toRpcError(new NestboxError('internal', 'the kernel refused'));
    const refused = await server.send('PUT', `/sandboxes/${id}/network`, { denyOut: ['1.1.1.1'] });
    assert.equal((await readError(refused)).status, 500);
    assert.deepEqual(await readDetail(server, id), before);
  });

  test('cannot be changed of a sandbox that is paused or not there', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    assert.equal((await server.send('POST', `/sandboxes/${id}/pause`, {})).status, 204);
    assert.equal((await readError(await server.send('PUT', `/sandboxes/${id}/network`, {}))).status, 409);
    const missing = await server.send('PUT', '/sandboxes/i00000000000000000000/network', {});
    assert.equal((await readError(missing)).status, 404);
  });
});
