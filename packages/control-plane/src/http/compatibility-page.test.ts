import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { z } from 'zod';
import { HostDouble } from '../testing/host-double.ts';
import { startTestServer } from '../testing/start-test-server.ts';

/** JSON Schema as far as fields have names in it. */
interface Schema {
  readonly properties?: Readonly<Record<string, Schema>> | undefined;
  readonly items?: Schema | undefined;
  readonly additionalProperties?: Schema | boolean | undefined;
  readonly anyOf?: readonly Schema[] | undefined;
  readonly oneOf?: readonly Schema[] | undefined;
}
const schema: z.ZodType<Schema> = z.lazy(() =>
  z.object({
    properties: z.record(z.string(), schema).optional(),
    items: schema.optional(),
    additionalProperties: z.union([z.boolean(), schema]).optional(),
    anyOf: z.array(schema).optional(),
    oneOf: z.array(schema).optional(),
  }),
);
const content = z.record(z.string(), z.object({ schema })).optional();
const operation = z.object({
  parameters: z.array(z.object({ name: z.string() })).optional(),
  requestBody: z.object({ content }).optional(),
  responses: z.record(z.string(), z.object({ content })),
});
const document = z.object({ paths: z.record(z.string(), z.record(z.string(), operation)) });

function fieldsOf(of: Schema | boolean | undefined): string[] {
  if (of === undefined || typeof of === 'boolean') return [];
  const parts = [of.items, of.additionalProperties, ...(of.anyOf ?? []), ...(of.oneOf ?? [])];
  const named = Object.entries(of.properties ?? {}).flatMap(([name, field]) => [name, ...fieldsOf(field)]);
  return [...named, ...parts.flatMap(fieldsOf)];
}

test('docs/compatibility.md names every parameter and field of every operation', async () => {
  await using host = await new HostDouble().open();
  await using server = await startTestServer([host]);
  const { paths } = document.parse(await (await fetch(`${server.apiUrl}/openapi.json`)).json());
  const page = readFileSync(new URL('../../../../docs/compatibility.md', import.meta.url), 'utf8');
  const words = new Set([...page.matchAll(/`([^`]+)`/g)].flatMap(([, code = '']) => code.match(/\w+/g) ?? []));
  const missing = Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).flatMap(([method, { parameters = [], requestBody, responses }]) => {
      const contents = [requestBody?.content, ...Object.values(responses).map((each) => each.content)];
      const bodies = contents.flatMap((each) => Object.values(each ?? {}));
      const fields = [...parameters.map(({ name }) => name), ...bodies.flatMap((each) => fieldsOf(each.schema))];
      return fields.filter((name) => !words.has(name)).map((name) => `${method} ${path}: ${name}`);
    }),
  );
  assert.deepEqual(missing, []);
});
