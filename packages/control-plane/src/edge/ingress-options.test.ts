import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { echo, Stage } from '../testing/edge-stage.ts';

const PORT = ['$', '{PORT}'].join('');

describe('what the edge tells a host’s proxy about a request', () => {
  test('is which host the application is to see and whether it speaks TLS, by port', async () => {
    const seen: IncomingMessage[] = [];
    const network = { maskRequestHost: `${PORT}.app.internal:${PORT}`, httpsPorts: [8443, 8443] };
    await using stage = await Stage.open(echo(seen), { network });
    await (await stage.fetch('/', {}, 8080)).text();
    await (await stage.fetch('/', {}, 8443)).text();
    assert.equal(seen[0]?.headers['x-nestbox-masked-host'], '8080.app.internal:8080');
    assert.equal(seen[0]?.headers['x-nestbox-secure-port'], undefined);
    assert.equal(seen[1]?.headers['x-nestbox-masked-host'], '8443.app.internal:8443');
    assert.equal(seen[1]?.headers['x-nestbox-secure-port'], '1');
    const detail = await (await stage.server.api(`/sandboxes/${stage.sandboxId}`)).json();
    const shown = z.object({ network: z.record(z.string(), z.unknown()) }).parse(detail);
    assert.deepEqual(shown.network, { maskRequestHost: network.maskRequestHost, httpsPorts: [8443] });
  });

  test('cannot be said by a client, and its token for the edge goes no further', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo(seen), { network: { allowPublicTraffic: false } });
    const answer = await stage.fetch('/', {
      headers: {
        'e2b-traffic-access-token': stage.trafficToken,
        'X-Nestbox-Masked-Host': 'evil.example',
        'X-Nestbox-Secure-Port': '1',
        'X-Nestbox-Host-Token': 'guess',
      },
    });
    assert.equal(answer.status, 200);
    const names = Object.keys(seen[0]?.headers ?? {});
    assert.deepEqual(
      names.filter((name) => name.startsWith('x-nestbox') || name.includes('token')),
      [],
    );
  });

  test('names the client, after the proxies in front, whose word on scheme and host is kept', async () => {
    const seen: IncomingMessage[] = [];
    await using stage = await Stage.open(echo(seen));
    const forwarded = { 'X-Forwarded-For': '192.0.2.7', 'X-Forwarded-Proto': 'https', 'X-Forwarded-Host': 'a.example' };
    await (await stage.fetch('/', { headers: forwarded })).text();
    assert.equal(seen[0]?.headers['x-forwarded-for'], '192.0.2.7, 127.0.0.1');
    assert.equal(seen[0]?.headers['x-forwarded-proto'], 'https');
    assert.equal(seen[0]?.headers['x-forwarded-host'], 'a.example');
  });
});
