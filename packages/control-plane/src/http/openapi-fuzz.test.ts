import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorBody } from '@nestbox/contract/http';
import { z } from 'zod';
import { createSandbox } from '../testing/api-answers.ts';
import { HostDouble } from '../testing/host-double.ts';
import { startTestServer, type TestServer } from '../testing/start-test-server.ts';

const REQUESTS = 3500;
const ADMIN = 'a'.repeat(64);
const SECRET = 'of-another-team';
const REQUEST_TIMEOUT_MS = 10_000;
/** Set FUZZ_SEED to look at a failure again, or to look elsewhere. */
const SEED = Number(process.env.FUZZ_SEED ?? 20_260_101);

/** JSON Schema as far as the document uses it. */
interface Schema {
  readonly type?: string | undefined;
  readonly properties?: Readonly<Record<string, Schema>> | undefined;
  readonly items?: Schema | undefined;
  readonly additionalProperties?: Schema | boolean | undefined;
  readonly enum?: readonly unknown[] | undefined;
  readonly anyOf?: readonly Schema[] | undefined;
  readonly required?: readonly string[] | undefined;
}
const schema: z.ZodType<Schema> = z.lazy(() =>
  z.object({
    type: z.string().optional(),
    properties: z.record(z.string(), schema).optional(),
    items: schema.optional(),
    additionalProperties: z.union([z.boolean(), schema]).optional(),
    enum: z.array(z.unknown()).optional(),
    anyOf: z.array(schema).optional(),
    required: z.array(z.string()).optional(),
  }),
);
const description = z.object({
  paths: z.record(
    z.string(),
    z.record(
      z.string(),
      z.object({
        parameters: z.array(z.object({ name: z.string(), in: z.string(), schema })).optional(),
        requestBody: z.object({ content: z.record(z.string(), z.object({ schema })) }).optional(),
        responses: z.record(z.string(), z.unknown()),
      }),
    ),
  ),
});

type Operation = z.infer<typeof description>['paths'][string][string] & {
  readonly path: string;
  readonly method: string;
};

/** xorshift32: the same seed gives the same requests everywhere. */
class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 1;
  }

  below(limit: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % limit;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(values: readonly [T, ...T[]]): T {
    return values[this.below(values.length)] ?? values[0];
  }
}

const deep = (depth: number): unknown => JSON.parse('['.repeat(depth) + ']'.repeat(depth));
const ODD_VALUES: [unknown, ...unknown[]] = [
  null,
  true,
  0,
  -1,
  0.5,
  1e308,
  -1e308,
  2 ** 31,
  2 ** 53,
  Number.MIN_VALUE,
  '',
  ' ',
  '\0',
  '\ud800',
  '💥'.repeat(50),
  '../../etc/passwd',
  "'; drop table sandboxes; --",
  '__proto__',
  'x'.repeat(20_000),
  [],
  {},
  [[[]]],
  deep(500),
  { constructor: { prototype: 1 } },
];
const TEXTS: [string, ...string[]] = [
  'base',
  'a',
  'name:tag',
  '*.example.com',
  '10.0.0.0/8',
  '0.0.0.0/0',
  'ünï',
  '%zz',
];

function generate(dice: Dice, { anyOf, ...of }: Schema, depth = 0): unknown {
  if (dice.chance(12)) return dice.pick(ODD_VALUES);
  const [first, ...others] = anyOf ?? [];
  if (first !== undefined) return generate(dice, dice.pick([first, ...others]), depth);
  const [one, ...more] = of.enum ?? [];
  if (one !== undefined) return dice.pick([one, ...more]);
  switch (of.type) {
    case 'object': {
      const fields: [string, unknown][] = [];
      for (const [name, field] of Object.entries(of.properties ?? {}))
        if (dice.chance(of.required?.includes(name) === true ? 92 : 35))
          fields.push([name, generate(dice, field, depth + 1)]);
      const extra = of.additionalProperties;
      if (typeof extra === 'object' && depth < 5)
        for (let count = dice.below(4); count > 0; count--)
          fields.push([dice.pick(TEXTS), generate(dice, extra, depth + 1)]);
      if (dice.chance(10)) fields.push([dice.pick(TEXTS), dice.pick(ODD_VALUES)]);
      return Object.fromEntries(fields);
    }
    case 'array':
      return Array.from({ length: dice.below(4) }, () => generate(dice, of.items ?? {}, depth + 1));
    case 'boolean':
      return dice.chance(50);
    case 'integer':
    case 'number':
      return dice.pick([0, 1, 15, 60, 100, 3600, 86_400]);
    default:
      return dice.pick(TEXTS);
  }
}

const METHODS: [string, ...string[]] = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];
const CONTENT_TYPES: [string, ...string[]] = [
  'application/json',
  'application/json; charset=utf-16',
  'text/plain',
  'application/x-www-form-urlencoded',
  'multipart/form-data; boundary=x',
  'application/xml',
  '/',
];

/** A sandbox and a snapshot of a team that does not send the requests. */
async function otherTeam(server: TestServer) {
  const ask = async (headers: Record<string, string>, path: string, body: object) => {
    const init = { method: 'POST', headers: { ...headers, 'Content-Type': 'application/json' } };
    const answer = await fetch(server.apiUrl + path, { ...init, body: JSON.stringify(body) });
    assert.equal(answer.status, 201, path);
    return z.record(z.string(), z.unknown()).parse(await answer.json());
  };
  const admin = { 'X-Admin-Token': ADMIN };
  const { teamID } = await ask(admin, '/admin/teams', { name: 'others' });
  const { key } = await ask(admin, `/admin/teams/${teamID}/api-keys`, { name: 'one' });
  const headers = { 'X-API-Key': String(key) };
  const fields = { templateID: 'base', timeout: 86_400, secure: true, metadata: { whose: SECRET } };
  const created = await ask(headers, '/sandboxes', fields);
  const sandboxId = String(created.sandboxID);
  await ask(headers, `/sandboxes/${sandboxId}/snapshots`, { name: SECRET });
  // Its id is asked for below, and answers may repeat what was asked for.
  const { snapshotID } = await ask(headers, `/sandboxes/${sandboxId}/snapshots`, {});
  const look = async () => {
    const paths = [`/sandboxes/${sandboxId}`, '/v2/sandboxes', '/snapshots', '/api-keys'];
    const answers = await Promise.all(paths.map((path) => fetch(server.apiUrl + path, { headers })));
    const texts = await Promise.all(answers.map((answer) => answer.text()));
    return texts.map((text) => text.replace(/"lastUsed":"[^"]*"/g, ''));
  };
  return {
    ids: [sandboxId, String(snapshotID).replace(/:.*/, '')] as const,
    token: String(created.envdAccessToken),
    look,
  };
}

test('whatever is sent along the lines of its own description, the API answers, never with a 500 or with what is another team’s', async () => {
  await using host = await new HostDouble().open();
  await using server = await startTestServer([host], { adminToken: ADMIN });
  const { paths } = description.parse(await (await fetch(`${server.apiUrl}/openapi.json`)).json());
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), ...operation })),
  );
  const [operation, ...otherOperations] = operations;
  assert.ok(operation !== undefined && operations.length > 60);
  const choices: [Operation, ...Operation[]] = [operation, ...otherOperations];
  const dice = new Dice(SEED);
  const others = await otherTeam(server);
  const before = await others.look();
  const secrets = [SECRET, others.token];
  const statuses = new Map<number, number>();
  let sandboxId = await createSandbox(server);
  for (let count = 0; count < REQUESTS; count++) {
    if (count % 100 === 0) sandboxId = await createSandbox(server);
    const { path, method: right, parameters = [], requestBody, responses } = dice.pick(choices);
    const method = dice.chance(5) ? dice.pick(METHODS) : right;
    const filled = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => {
      if (name === 'sandboxID' && dice.chance(70)) return sandboxId;
      if (dice.chance(20)) return dice.pick([...others.ids]);
      const value = dice.chance(50) ? dice.pick(TEXTS) : String(dice.pick(ODD_VALUES) ?? '');
      return encodeURIComponent(value.toWellFormed().slice(0, 2000));
    });
    const query = new URLSearchParams();
    for (const { name, in: where, schema: of } of parameters) {
      if (where !== 'query' || dice.chance(50)) continue;
      const value = generate(dice, of);
      const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
      for (let times = dice.chance(5) ? 2 : 1; times > 0; times--) query.append(name, text.slice(0, 5000));
    }
    const of = Object.values(requestBody?.content ?? {})[0]?.schema;
    const sends = method !== 'GET' && (of !== undefined || dice.chance(20));
    let body = sends ? JSON.stringify(generate(dice, of ?? {})) : undefined;
    if (body !== undefined && dice.chance(4)) body = body.slice(0, dice.below(body.length + 1));
    const url = `${filled}${query.size === 0 ? '' : `?${query}`}`;
    const asAdmin = /^\/(admin|nodes)/.test(path) && dice.chance(70);
    const told = `request ${count} of seed ${SEED}: ${method} ${url.slice(0, 300)} ${body?.slice(0, 300) ?? ''}`;
    const answer = await server
      .api(url, {
        method,
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
        headers: {
          ...(asAdmin ? { 'X-Admin-Token': ADMIN } : {}),
          ...(body === undefined
            ? {}
            : { 'Content-Type': dice.chance(6) ? dice.pick(CONTENT_TYPES) : 'application/json' }),
        },
        ...(body === undefined ? {} : { body }),
      })
      .catch((cause: unknown) => assert.fail(`${told}: ${cause}`));
    const text = await answer.text();
    statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
    assert.ok(
      answer.status < 500 || answer.status === 501 || answer.status === 507,
      `${told}: ${answer.status} ${text}`,
    );
    if (!asAdmin) assert.ok(!secrets.some((secret) => text.includes(secret)), `${told}: ${text}`);
    if (answer.status < 400 && method === right) assert.ok(Object.hasOwn(responses, answer.status), told);
    if (answer.status >= 400) {
      const error = errorBody.parse(JSON.parse(text));
      assert.equal(error.code, answer.status, told);
      assert.ok(error.message.length < 2000, told);
    }
  }
  assert.deepEqual(await others.look(), before);
  // Else it would have tried nothing but what is refused at the door.
  for (const status of [200, 201, 204, 400, 404])
    assert.ok((statuses.get(status) ?? 0) > 20, `${status} in ${[...statuses]}`);
});
