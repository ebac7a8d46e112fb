import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { NestboxError } from '@nestbox/contract';
import { errorBody } from '@nestbox/contract/http';
import { toRpcError } from '@nestbox/kit';
import { z } from 'zod';
import { UNSUPPORTED_OPERATIONS } from './http/unsupported-operations.ts';
import { createSandbox, readError } from './testing/api-answers.ts';
import { HostDouble } from './testing/host-double.ts';
import { startTestServer, TEST_API_KEY, type TestServer } from './testing/start-test-server.ts';

const idBody = z.object({ sandboxID: z.string() });

describe('control API', () => {
  test('answers health without a key, and everything else only with one', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    assert.equal((await fetch(`${server.apiUrl}/health`)).status, 204);
    for (const headers of [
      {},
      { 'X-API-Key': '' },
      { 'X-API-Key': 'e2b_0' },
      { 'X-API-Key': `${TEST_API_KEY}0` },
      { Authorization: 'Bearer sk_e2b_0' },
      { Authorization: `Basic ${TEST_API_KEY}` },
    ]) {
      const response = await fetch(`${server.apiUrl}/v2/sandboxes`, { headers });
      assert.deepEqual((({ status, code }) => ({ status, code }))(await readError(response)), {
        status: 401,
        code: 'unauthorized',
      });
    }
    for (const headers of [
      { 'X-API-Key': TEST_API_KEY },
      { Authorization: `Bearer ${TEST_API_KEY}` },
      { Authorization: `Bearer ${TEST_API_KEY}`, 'X-API-Key': 'wrong' },
    ])
      assert.equal((await fetch(`${server.apiUrl}/v2/sandboxes`, { headers })).status, 200);
  });

  test('gives a sandbox 15 seconds and no token on the first path, 5 minutes and a token on the second', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const first = await (await server.send('POST', '/sandboxes', { templateID: ' BASE:default ' })).json();
    const second = await (await server.send('POST', '/v2/sandboxes', { templateID: 'base0000000000000000' })).json();
    const lifeOf = async (body: unknown) => {
      const detail = z
        .object({ startedAt: z.string(), endAt: z.string(), envdAccessToken: z.string().optional() })
        .parse(await (await server.api(`/sandboxes/${idBody.parse(body).sandboxID}`)).json());
      return { sec: (Date.parse(detail.endAt) - Date.parse(detail.startedAt)) / 1000, token: detail.envdAccessToken };
    };
    assert.deepEqual(await lifeOf(first), { sec: 15, token: undefined });
    assert.equal(host.created[0]?.accessToken, '');
    const { sec, token } = await lifeOf(second);
    assert.equal(sec, 300);
    assert.match(token ?? '', /^[0-9a-f]{64}$/);
    assert.equal(host.created[1]?.accessToken, token);
  });

  test('answers create with exactly the fields of the wire', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host], { domain: 'sandboxes.example' });
    const body = await (
      await server.send('POST', '/sandboxes', {
        templateID: 'base',
        secure: true,
        network: { allowPublicTraffic: false },
      })
    ).json();
    const shape = z.strictObject({
      templateID: z.literal('base0000000000000000'),
      sandboxID: z.string().regex(/^i[a-z0-9]{20}$/),
      alias: z.literal('base'),
      clientID: z.string().regex(/^[a-z0-9]+$/),
      envdVersion: z.string(),
      envdAccessToken: z.string().regex(/^[0-9a-f]{64}$/),
      trafficAccessToken: z.string().regex(/^[0-9a-f]{64}$/),
      domain: z.literal('sandboxes.example'),
    });
    const sandbox = shape.parse(body);
    assert.notEqual(sandbox.envdAccessToken, sandbox.trafficAccessToken);
    const legacy = await server.api(`/sandboxes/${sandbox.sandboxID}-${sandbox.clientID}`);
    assert.equal(legacy.status, 200);
  });

  test('accepts a chunked body without a length, and an empty body where none is needed', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const text = JSON.stringify({ templateID: 'base' });
    const stream = new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode(text.slice(0, 5)));
        controller.enqueue(new TextEncoder().encode(text.slice(5)));
        controller.close();
      },
    });
    const created = await server.api('/v2/sandboxes', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: stream,
      duplex: 'half',
    });
    assert.equal(created.status, 201);
    const { sandboxID } = idBody.parse(await created.json());
    for (const headers of [{}, { 'Content-Type': 'application/json' }]) {
      assert.equal((await server.api(`/sandboxes/${sandboxID}/refreshes`, { method: 'POST', headers })).status, 204);
      assert.equal((await server.api(`/v2/sandboxes/${sandboxID}/connect`, { method: 'POST', headers })).status, 200);
      const needed = await server.api(`/sandboxes/${sandboxID}/connect`, { method: 'POST', headers });
      assert.equal((await readError(needed)).code, 'invalid_request');
    }
  });

  test('refreshes for 15 seconds at least and never shortens', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server, { timeout: 5 });
    const endAt = async () =>
      Date.parse(z.object({ endAt: z.string() }).parse(await (await server.api(`/sandboxes/${id}`)).json()).endAt);
    const before = await endAt();
    await server.send('POST', `/sandboxes/${id}/refreshes`, { duration: 0 });
    const refreshed = await endAt();
    assert.ok(refreshed >= before + 9000 && refreshed <= Date.now() + 15_000);
    await server.send('POST', `/sandboxes/${id}/refreshes`, { duration: 1 });
    assert.ok((await endAt()) >= refreshed);
    assert.equal((await server.send('POST', `/sandboxes/${id}/refreshes`, { duration: 3601 })).status, 400);
  });

  test('pages carry their headers, and the token remembers the order', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const ids = [];
    for (let i = 0; i < 3; i++) ids.push(await createSandbox(server));
    const first = await server.api('/v2/sandboxes?limit=2&order=asc&state=running,paused');
    assert.equal(first.headers.get('x-total-running'), '3');
    const token = first.headers.get('x-next-token') ?? '';
    const firstIds = z.array(idBody).parse(await first.json());
    const second = await server.api(
      `/v2/sandboxes?limit=2&nextToken=${encodeURIComponent(token)}&state=running&state=paused`,
    );
    assert.equal(second.headers.get('x-next-token'), null);
    const secondIds = z.array(idBody).parse(await second.json());
    assert.deepEqual(new Set([...firstIds, ...secondIds].map(({ sandboxID }) => sandboxID)), new Set(ids));
    assert.equal(z.array(idBody).parse(await (await server.api('/sandboxes')).json()).length, 3);
  });

  test('tells metrics of several sandboxes and leaves out what does not run', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    const answer = await server.api(`/sandboxes/metrics?sandbox_ids=${id},iunknown`);
    assert.deepEqual(
      Object.keys(z.object({ sandboxes: z.record(z.string(), z.unknown()) }).parse(await answer.json()).sandboxes),
      [id],
    );
  });

  test('lists templates in pages with their use', async () => {
    await using host = await new HostDouble().open();
    const [base] = host.templates;
    assert.ok(base !== undefined);
    host.templates.push({ ...base, templateId: 'zzz', names: ['second'] });
    await using server = await startTestServer([host]);
    await createSandbox(server);
    const shape = z.array(
      z.object({
        templateID: z.string(),
        spawnCount: z.int(),
        lastSpawnedAt: z.string().nullable(),
        buildID: z.uuid(),
      }),
    );
    // The use is counted when the create has been answered.
    let all = shape.parse(await (await server.api('/templates')).json());
    while (all[0]?.spawnCount === 0) all = shape.parse(await (await server.api('/templates')).json());
    assert.deepEqual(
      all.map(({ templateID, spawnCount, lastSpawnedAt }) => [templateID, spawnCount, lastSpawnedAt === null]),
      [
        ['base0000000000000000', 1, false],
        ['zzz', 0, true],
      ],
    );
    const page = await server.api('/v2/templates?limit=1');
    assert.deepEqual(shape.parse(await page.json()), all.slice(0, 1));
    const rest = await server.api(`/v2/templates?limit=1&nextToken=${page.headers.get('x-next-token')}`);
    assert.deepEqual(shape.parse(await rest.json()), all.slice(1));
    assert.equal(rest.headers.get('x-next-token'), null);
    assert.deepEqual(await (await server.api('/templates/aliases/second')).json(), {
      templateID: 'zzz',
      public: false,
    });
    assert.equal((await readError(await server.api('/templates/aliases/third'))).code, 'template_not_found');
  });

  test('every known operation that is not built says so, whatever its body', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    for (const { method, path } of UNSUPPORTED_OPERATIONS) {
      const url = path.replace(/:[A-Za-z]+/g, 'x');
      const init =
        method === 'GET' ? { method } : { method, body: 'not json', headers: { 'Content-Type': 'text/plain' } };
      const { status, code } = await readError(await server.api(url, init));
      assert.deepEqual([status, code], [501, 'not_supported'], `${method} ${path}`);
      assert.equal((await fetch(server.apiUrl + url, { method })).status, 401, `${method} ${path} without a key`);
    }
  });
});

describe('a create request', () => {
  const refused: readonly [Record<string, unknown>, string, string][] = [
    [{ autoResume: { enabled: true } }, 'invalid_request', 'autoResume'],
    [{ autoResume: { enabled: true }, autoPause: false }, 'invalid_request', 'autoResume'],
    [{ autoResume: {} }, 'invalid_request', 'autoResume.enabled'],
    [{ autoPause: 'yes' }, 'invalid_request', 'autoPause'],
    [{ autoPauseMemory: false }, 'invalid_request', 'autoPauseMemory'],
    [{ autoPause: true, autoPauseMemory: false, autoResume: { enabled: true } }, 'invalid_request', 'autoPauseMemory'],
    [{ iam: { tokens: { a: { audience: 'x', tokenType: 'y' } } } }, 'not_supported', 'iam'],
    [{ volumeMounts: [{ name: 'v', path: '/v' }] }, 'not_supported', 'volumeMounts'],
    [{ network: { allowOut: ['1.1.1.1/33'] } }, 'invalid_request', 'allowOut'],
    [{ network: { allowOut: ['example.com'] } }, 'invalid_request', '0.0.0.0/0'],
    [{ network: { denyOut: ['example.com'] } }, 'invalid_request', 'denyOut'],
    [{ network: { rules: { 'x.example': [{}] } } }, 'not_supported', 'network.rules'],
    [{ network: { egressProxy: { address: 'x:1' } } }, 'not_supported', 'network.egressProxy'],
    [{ network: { dnsServers: [] } }, 'not_supported', 'network.dnsServers'],
    [{ network: { maskRequestHost: 'a b' } }, 'invalid_request', 'network.maskRequestHost'],
    [{ network: { maskRequestHost: 'a\r\nX: y' } }, 'invalid_request', 'network.maskRequestHost'],
    [{ network: { httpsPorts: [0] } }, 'invalid_request', 'network.httpsPorts'],
    [{ network: { httpsPorts: [443, 65_536] } }, 'invalid_request', 'network.httpsPorts'],
    [{ network: { httpsPorts: [49_983] } }, 'invalid_request', 'network.httpsPorts'],
    [{ network: { allowPublicTraffic: false } }, 'invalid_request', 'network.allowPublicTraffic'],
    [{ timeout: 0 }, 'invalid_request', 'timeout'],
    [{ timeout: -1 }, 'invalid_request', 'timeout'],
    [{ timeout: 86_401 }, 'invalid_request', 'timeout'],
    [{ timeout: 1e300 }, 'invalid_request', 'timeout'],
    [{ timeout: 1.5 }, 'invalid_request', 'timeout'],
    [{ timeout: '60' }, 'invalid_request', 'timeout'],
    [{ timeout: null }, 'invalid_request', 'timeout'],
    [{ templateID: undefined }, 'invalid_request', 'templateID'],
    [{ templateID: '' }, 'invalid_request', 'templateID'],
    [{ templateID: 7 }, 'invalid_request', 'templateID'],
    [{ templateID: '../../etc/passwd' }, 'template_not_found', 'passwd'],
    [{ templateID: 'x'.repeat(5000) }, 'template_not_found', 'template'],
    [{ templateID: 'a\0b' }, 'template_not_found', 'template'],
    [{ metadata: { a: 1 } }, 'invalid_request', 'metadata.a'],
    [{ metadata: 'x' }, 'invalid_request', 'metadata'],
    [{ metadata: { a: 'x\0' } }, 'invalid_request', 'metadata.a'],
    [{ envVars: { 'A=B': 'x' } }, 'invalid_request', 'envVars'],
    [{ envVars: { '': 'x' } }, 'invalid_request', 'envVars'],
    [{ envVars: { A: 'x\0' } }, 'invalid_request', 'envVars.A'],
    // Every command would fail with it.
    [{ envVars: { B: 'é'.repeat(65_535) } }, 'invalid_request', 'The field "envVars.B" is wrong: no program'],
    [{ envVars: { ['C'.repeat(1025)]: '' } }, 'invalid_request', 'envVars.CC'],
    [{ metadata: JSON.parse('{"__proto__": "x"}') }, 'invalid_request', 'a key "__proto__"'],
    [{ secure: 'yes' }, 'invalid_request', 'secure'],
    [{ allow_internet_access: 1 }, 'invalid_request', 'allow_internet_access'],
  ];

  test('that asks for what is not there is refused by a sentence that names the field', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    for (const [fields, code, named] of refused) {
      const response = await server.send('POST', '/sandboxes', { templateID: 'base', ...fields });
      const error = await readError(response);
      assert.equal(error.code, code, JSON.stringify(fields).slice(0, 100));
      assert.ok(error.message.includes(named), `${error.message} names ${named}`);
      assert.ok(error.message.length < 500);
    }
    assert.equal(host.created.length, 0);
  });

  test('that asks for nothing special in many words is accepted', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    await createSandbox(server, {
      autoPause: false,
      autoPauseMemory: true,
      autoResume: { enabled: false },
      mcp: null,
      iam: { tokens: {} },
      volumeMounts: [],
      secure: true,
      allow_internet_access: true,
      network: { allowOut: [], denyOut: [], rules: {}, egressProxy: null, dnsServers: null, allowPublicTraffic: true },
      metadata: {},
      envVars: {},
      something_of_tomorrow: 1,
    });
  });

  test("fails with the host's own error and leaves nothing behind", async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    host.createError = toRpcError(new NestboxError('boot_timeout', 'The kernel said nothing for 30 s.'));
    const error = await readError(await server.send('POST', '/sandboxes', { templateID: 'base' }));
    assert.deepEqual(error, { status: 504, code: 'boot_timeout', message: 'The kernel said nothing for 30 s.' });
    assert.deepEqual(host.destroyed, [host.created[0]?.sandboxId]);
    assert.deepEqual(await (await server.api('/v2/sandboxes')).json(), []);
  });

  test('whose client goes away leaves no sandbox behind', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    host.createGate = new Promise(() => {});
    const abort = new AbortController();
    const creating = server.api('/sandboxes', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: '{"templateID":"base"}',
      signal: abort.signal,
    });
    await host.until(() => host.created.length === 1);
    abort.abort();
    await assert.rejects(creating);
    await host.until(() => host.destroyed.length === 1);
    assert.deepEqual(host.destroyed, [host.created[0]?.sandboxId]);
  });

  test('goes to the host with the most room that has the template', async () => {
    await using small = await new HostDouble('small').open();
    await using large = await new HostDouble('large').open();
    small.memoryBytes = 2n * 1024n ** 3n;
    large.memoryBytes = 8n * 1024n ** 3n;
    await using server = await startTestServer([small, large]);
    for (let i = 0; i < 5; i++) await createSandbox(server);
    assert.deepEqual([small.created.length, large.created.length], [1, 4]);
    large.templates.length = 0;
    await createSandbox(server);
    assert.equal(small.created.length, 2);
  });
});

describe('bad input', () => {
  const strangeIds = [
    'iunknown',
    '..',
    '%2e%2e',
    '%2e%2e%2fx',
    'a%00b',
    '%F0%9F%98%80',
    'x'.repeat(5000),
    '-1',
    '99999999999999999999',
    "'%20or%201=1",
    '%25',
    'I',
  ];

  test('an id that is none is a sandbox that is not there, on every path', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const calls: readonly [string, string, unknown][] = [
      ['GET', '', undefined],
      ['DELETE', '', undefined],
      ['GET', '/metrics', undefined],
      ['POST', '/connect', { timeout: 1 }],
      ['POST', '/timeout', { timeout: 1 }],
      ['POST', '/refreshes', { duration: 1 }],
      ['POST', '/pause', {}],
      ['POST', '/resume', {}],
      ['POST', '/fork', {}],
      ['POST', '/snapshots', {}],
      ['GET', '/trace', undefined],
      ['GET', '/activity', undefined],
    ];
    for (const id of strangeIds) {
      for (const [method, suffix, body] of calls) {
        const path = `/sandboxes/${id}${suffix}`;
        const response =
          body === undefined ? await server.api(path, { method }) : await server.send(method, path, body);
        const error = await readError(response);
        // `fetch` applies the dot segments itself: then it is another path.
        assert.ok([404, 405, 501].includes(error.status), `${method} ${path.slice(0, 60)}: ${error.status}`);
        assert.ok(error.message.length < 300);
      }
    }
  });

  test('bodies that are broken, of another type, too large or not objects get their own errors', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const json = { 'Content-Type': 'application/json' };
    const cases: readonly [RequestInit, number, string][] = [
      [{ body: '{"templateID":', headers: json }, 400, 'invalid_request'],
      [{ body: 'null', headers: json }, 400, 'invalid_request'],
      [{ body: '[]', headers: json }, 400, 'invalid_request'],
      [{ body: '"x"', headers: json }, 400, 'invalid_request'],
      [{ body: '', headers: json }, 400, 'invalid_request'],
      [{}, 400, 'invalid_request'],
      [{ body: '{"templateID":"base","__proto__":{"x":1}}', headers: json }, 400, 'invalid_request'],
      [
        { body: 'templateID=base', headers: { 'Content-Type': 'application/x-www-form-urlencoded' } },
        415,
        'unsupported_media_type',
      ],
      [{ body: '{}', headers: { 'Content-Type': 'text/plain' } }, 415, 'unsupported_media_type'],
      [{ body: '{}', headers: { 'Content-Type': ';;;' } }, 415, 'unsupported_media_type'],
      [{ body: `{"templateID":"${'x'.repeat(1_100_000)}"}`, headers: json }, 413, 'payload_too_large'],
      [{ body: '{'.repeat(50_000), headers: json }, 400, 'invalid_request'],
      [{ body: '['.repeat(100_000) + ']'.repeat(100_000), headers: json }, 400, 'invalid_request'],
      [{ body: Buffer.from([0xff, 0xfe, 0x00]), headers: json }, 400, 'invalid_request'],
    ];
    for (const [init, status, code] of cases) {
      const error = await readError(await server.api('/sandboxes', { method: 'POST', ...init }));
      assert.deepEqual([error.status, error.code], [status, code], String(init.body).slice(0, 40));
    }
  });

  test('query parameters out of range are named', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const id = await createSandbox(server);
    for (const [query, named] of [
      ['limit=0', 'limit'],
      ['limit=101', 'limit'],
      ['limit=-1', 'limit'],
      ['limit=abc', 'limit'],
      ['limit=1e99', 'limit'],
      ['limit=1&limit=2', 'limit'],
      ['state=sleeping', 'state'],
      ['state=', 'state'],
      ['order=up', 'order'],
      ['startedAfter=yesterday', 'startedAfter'],
      ['nextToken=garbage', 'nextToken'],
      ['nextToken=bnVsbA', 'nextToken'],
      ['metadata=a%3D%25zz', 'metadata'],
    ] as const) {
      const error = await readError(await server.api(`/v2/sandboxes?${query}`));
      assert.deepEqual([error.status, error.code], [400, 'invalid_request'], query);
      assert.ok(error.message.includes(`"${named}`), `${error.message} names ${named}`);
    }
    for (const query of ['start=-1', 'start=2&end=1', 'end=x', 'start=1e40'])
      assert.equal((await readError(await server.api(`/sandboxes/${id}/metrics?${query}`))).code, 'invalid_request');
    for (const query of ['', 'sandbox_ids=', 'sandbox_ids=a,a', `sandbox_ids=${'a'.repeat(3)},`.repeat(3)])
      assert.equal((await readError(await server.api(`/sandboxes/metrics?${query}`))).status, 400, query);
  });

  test('an unknown path is 404, a wrong method 405 with the right ones', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    for (const path of ['/', '/nothing', '/sandboxes/a/b/c', '/SANDBOXES', '/sandboxes//', `/${'x'.repeat(5000)}`])
      assert.equal((await readError(await server.api(path))).code, 'not_found', path.slice(0, 40));
    const wrong = await server.api('/v2/sandboxes', { method: 'DELETE' });
    assert.equal(wrong.headers.get('allow'), 'GET, POST');
    assert.equal((await readError(wrong)).code, 'method_not_allowed');
    assert.equal((await readError(await server.api('/sandboxes/iabc', { method: 'PUT' }))).status, 405);
  });

  /** Sends bytes as they are and collects the answer until the server closes. */
  async function sendRaw(server: TestServer, text: string): Promise<string> {
    const socket = connect(Number(new URL(server.apiUrl).port), '127.0.0.1');
    let answer = '';
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      answer += chunk;
    });
    socket.write(text, 'latin1');
    await once(socket, 'close');
    return answer;
  }

  test('what is not HTTP, or carries too much in its head, gets an error in the same form', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const end = 'Connection: close\r\nHost: x\r\n\r\n';
    for (const [text, status] of [
      ['nonsense\r\n\r\n', 400],
      [`GET /sandboxes/%zz HTTP/1.1\r\nX-API-Key: ${TEST_API_KEY}\r\n${end}`, 400],
      [`GET /a\0b HTTP/1.1\r\n${end}`, 400],
      [`GET /health HTTP/1.1\r\nX: ${'x'.repeat(40_000)}\r\n${end}`, 431],
      [`POST /sandboxes HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n${end}`, 400],
      [`POST /sandboxes HTTP/1.1\r\nContent-Length: -1\r\n${end}`, 400],
      [`GET /sandboxes/../health HTTP/1.1\r\n${end}`, 404],
      ['GET /health HTTP/1.1\r\nConnection: close\r\n\r\n', 400],
      [`POST /sandboxes HTTP/1.1\r\nExpect: miracles\r\n${end}`, 417],
      [`CONNECT 127.0.0.1:22 HTTP/1.1\r\n${end}`, 405],
    ] as const) {
      const answer = await sendRaw(server, text);
      assert.ok(
        answer.startsWith(`HTTP/1.1 ${status} `),
        `${JSON.stringify(text.slice(0, 50))}: ${answer.slice(0, 40)}`,
      );
      const body = errorBody.parse(JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4)));
      assert.equal(body.code, status);
    }
  });

  test('a client that goes away in the middle of its body disturbs nobody', async () => {
    await using host = await new HostDouble().open();
    await using server = await startTestServer([host]);
    const socket = connect(Number(new URL(server.apiUrl).port), '127.0.0.1');
    socket.write(
      `POST /sandboxes HTTP/1.1\r\nHost: x\r\nX-API-Key: ${TEST_API_KEY}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"temp`,
    );
    await once(socket, 'connect');
    socket.resetAndDestroy();
    assert.equal((await server.api('/v2/sandboxes')).status, 200);
  });
});
