import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLogger } from '@nestbox/kit';
import { z } from 'zod';
import { HostDouble } from './testing/host-double.ts';
import { hostError } from './testing/host-double-snapshots.ts';
import { startTestServer, TEST_API_KEY, TEST_SEED } from './testing/start-test-server.ts';

const tokens = z.object({
  sandboxID: z.string(),
  envdAccessToken: z.string(),
  trafficAccessToken: z.string(),
});

test('no line of the log holds a secret, at whatever level, and those of a sandbox name it', async () => {
  const lines: string[] = [];
  const logger = createLogger({ level: 'trace', write: (line) => lines.push(line) });
  await using host = await new HostDouble().open();
  await using server = await startTestServer([host], { logger });
  const secrets = [TEST_API_KEY, TEST_SEED, 'value-of-a-variable', 'e2b_00000000000000000000000000000000000000ff'];
  const body = {
    templateID: 'base',
    secure: true,
    envVars: { TOKEN: 'value-of-a-variable' },
    network: { allowPublicTraffic: false },
  };
  const created = await server.send('POST', '/sandboxes', body);
  const { sandboxID, envdAccessToken, trafficAccessToken } = tokens.parse(await created.json());
  secrets.push(envdAccessToken, trafficAccessToken);
  // What goes well, what is refused, what fails on the host, and what the edge does not let through.
  for (const verb of ['pause', 'resume', 'resume', 'connect', 'fork', 'snapshots', 'nonsense'])
    await server.send('POST', `/sandboxes/${sandboxID}/${verb}`, { timeout: 60 });
  await server.send('POST', '/sandboxes', { ...body, timeout: -1 });
  host.createError = hostError('internal', 'It broke.');
  assert.equal((await server.send('POST', '/sandboxes', body)).status, 500);
  await fetch(`${server.apiUrl}/sandboxes`, { headers: { 'X-API-Key': secrets[3] ?? '' } });
  // A key where its id belongs.
  for (const path of [`/api-keys/${TEST_API_KEY}`, `/sandboxes/${TEST_API_KEY}`, `/nothing/${TEST_API_KEY}`])
    assert.ok((await server.api(path, { method: 'DELETE' })).status >= 400);
  for (const token of [trafficAccessToken, 'wrong'])
    await fetch(`${server.edgeUrl}/`, {
      headers: { 'E2b-Sandbox-Id': sandboxID, 'E2b-Sandbox-Port': '8080', 'e2b-traffic-access-token': token },
    });
  await server.api(`/sandboxes/${sandboxID}`, { method: 'DELETE' });

  const text = lines.join('');
  for (const secret of secrets) assert.ok(!text.includes(secret), `${secret} in ${text}`);
  const said = (message: string) => lines.filter((line) => line.includes(message)).map((line) => JSON.parse(line));
  for (const message of ['A sandbox runs', 'A sandbox ended']) {
    const found = said(message);
    assert.ok(
      found.some((line) => line.sandboxId === sandboxID),
      message,
    );
    assert.ok(
      found.every((line) => typeof line.sandboxId === 'string'),
      message,
    );
  }
  assert.equal(said('A request failed').length, 1);
  const refused = said('A request was refused').filter(({ path }) => path.startsWith(`/sandboxes/${sandboxID}/`));
  assert.ok(refused.length > 0 && refused.every((line) => line.sandboxId === sandboxID));
});
