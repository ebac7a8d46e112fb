import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { HostDouble } from '../testing/host-double.ts';
import { startTestServer } from '../testing/start-test-server.ts';

const operation = z.looseObject({
  operationId: z.string(),
  parameters: z.array(z.looseObject({ name: z.string(), in: z.enum(['path', 'query']) })).optional(),
  security: z.array(z.record(z.string(), z.unknown())).optional(),
  responses: z.record(z.string(), z.unknown()),
});
const document = z.object({
  openapi: z.literal('3.1.0'),
  info: z.object({ title: z.string(), version: z.string(), description: z.string() }),
  security: z.array(z.unknown()),
  paths: z.record(z.string(), z.record(z.string(), operation)),
  components: z.unknown(),
});

describe('/openapi.json', () => {
  test('has every operation that docs/compatibility.md names, each with its parameters and a name of its own', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const answer = await fetch(`${server.apiUrl}/openapi.json`);
    assert.equal(answer.headers.get('content-type'), 'application/json; charset=utf-8');
    const { paths } = document.parse(await answer.json());
    const served = Object.entries(paths).flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const page = readFileSync(new URL('../../../../docs/compatibility.md', import.meta.url), 'utf8');
    const rows = page.split('\n').filter((line) => /^\| `[A-Z]+ \//.test(line) && !line.includes('| refused |'));
    const named = rows.flatMap((row) =>
      [...(row.split('|')[1] ?? '').matchAll(/`([A-Z]+ \/[^`]*)`/g)].map(([, name]) => name ?? ''),
    );
    const missing = named.filter((name) => !served.includes(name) && !GUEST_ROUTES.test(name));
    assert.deepEqual(missing, [], 'documented and served');
    const told = new Set(named);
    assert.deepEqual(
      served.filter((name) => !told.has(name)),
      [],
      'served and documented',
    );
    const ids = Object.values(paths).flatMap((operations) => Object.values(operations).map((each) => each.operationId));
    assert.equal(new Set(ids).size, ids.length);
    for (const [path, operations] of Object.entries(paths))
      for (const { parameters = [] } of Object.values(operations))
        assert.deepEqual(
          parameters.filter((each) => each.in === 'path').map(({ name }) => name),
          [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name),
          path,
        );
  });

  test('says who may ask, and how: the admin token alone where a key is refused, and what is open to all', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const { paths } = document.parse(await (await fetch(`${server.apiUrl}/openapi.json`)).json());
    for (const [path, operations] of Object.entries(paths))
      for (const [method, { security, responses }] of Object.entries(operations)) {
        if (Object.hasOwn(responses, '501')) continue;
        const url = path.replaceAll(/\{\w+\}/g, 'x');
        const ask = { method: method.toUpperCase() };
        const shown = `${ask.method} ${path}`;
        const isOpen = security?.length === 0;
        const isForAdmin = security?.every((way) => Object.hasOwn(way, 'AdminToken')) === true && !isOpen;
        const withKey = await server.api(url, ask);
        assert.equal(withKey.status === 403, isForAdmin, shown);
        assert.equal((await fetch(server.apiUrl + url, ask)).status === 401, !isOpen, shown);
        if (withKey.ok) assert.ok(Object.hasOwn(responses, withKey.status), shown);
      }
  });

  test('is shown by a page that loads nothing from elsewhere', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const answer = await fetch(`${server.apiUrl}/docs`);
    const html = await answer.text();
    assert.match(answer.headers.get('content-type') ?? '', /^text\/html/);
    assert.doesNotMatch(html, /https?:\/\/|src=/);
    assert.match(answer.headers.get('content-security-policy') ?? '', /default-src 'none'/);
  });
});

/** The page has the guest agent's routes too. */
const GUEST_ROUTES =
  /^(GET|POST) \/(metrics|envs|files|files\/compose|init|freeze|unfreeze|upgrade|activity|logs|clock|snapshot\/prepare|memory\/preload)$/;
