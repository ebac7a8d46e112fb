import { NESTBOX_VERSION } from '@nestbox/contract';
import { errorBody } from '@nestbox/contract/http';
import type { RouteOptions } from 'fastify';
import { z } from 'zod';
import { forAdmin } from './caller.ts';
import { UNSUPPORTED_OPERATIONS } from './unsupported-operations.ts';

type Route = Pick<RouteOptions, 'url' | 'method' | 'schema' | 'onRequest'>;
type Json = Readonly<Record<string, unknown>>;

export interface OpenApiDocument {
  readonly openapi: '3.1.0';
  readonly info: Json;
  readonly security: readonly Json[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, Json>>>>;
  readonly components: Json;
}

const DONE = { description: 'Done.' };
const SUCCESS = 'Success.';

/** Routes that ask for no key, and what they answer, which no schema says. */
const OPEN_PATHS: Readonly<Record<string, Json>> = {
  '/health': { 204: DONE },
  '/openapi.json': { 200: { description: SUCCESS, content: { 'application/json': { schema: { type: 'object' } } } } },
  '/docs': { 200: { description: SUCCESS, content: { 'text/html': { schema: { type: 'string' } } } } },
};

/** Everything of a team; the admin token speaks for the one that is named beside it. */
const OF_TEAM = [{ ApiKey: [] }, { Bearer: [] }, { AdminToken: [], Team: [] }];
/** What an administrator may ask for without naming a team: then it is about all of them, or the path names one. */
const WIDE_PATHS: ReadonlySet<string> = new Set([
  '/audit',
  '/disk',
  '/teams',
  '/teams/:teamID/metrics',
  '/teams/:teamID/metrics/max',
]);
/** What only an administrator may do to the team that is named in a header. */
const ADMINISTERED_BY_HEADER = /^\/api-keys/;

/** The API's own description, made of the schemas that its routes check requests with: it cannot differ from them. */
export class OpenApi {
  readonly #routes: Route[] = [];
  #text: string | undefined;

  /** To be called for every route as it is registered. */
  add(route: Route): void {
    this.#routes.push(route);
  }

  document(): OpenApiDocument {
    return {
      openapi: '3.1.0',
      info: { title: 'Nestbox', version: NESTBOX_VERSION, description: 'The control API of Nestbox.' },
      security: OF_TEAM,
      paths: this.#paths(),
      components: {
        securitySchemes: {
          ApiKey: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
          Bearer: { type: 'http', scheme: 'bearer' },
          AdminToken: { type: 'apiKey', in: 'header', name: 'X-Admin-Token' },
          Team: { type: 'apiKey', in: 'header', name: 'X-Team-ID' },
        },
        schemas: { Error: toSchema(errorBody, 'output') },
      },
    };
  }

  /** The document as it is sent; made once, when all routes are there. */
  text(): string {
    this.#text ??= JSON.stringify(this.document());
    return this.#text;
  }

  #paths(): Record<string, Record<string, Json>> {
    const paths: Record<string, Record<string, Json>> = {};
    for (const route of this.#routes) {
      const { url, method, schema } = route;
      const path = url.replaceAll(/:(\w+)/g, '{$1}');
      const operations = paths[path] ?? {};
      paths[path] = operations;
      for (const name of [method].flat()) {
        const unsupported = UNSUPPORTED_OPERATIONS.find((each) => each.path === url && each.method === name);
        operations[name.toLowerCase()] = {
          operationId: operationId(name, path),
          ...(unsupported === undefined ? {} : { description: `${unsupported.feature} are not supported yet.` }),
          ...securityOf(route),
          ...describe(url, schema ?? {}, unsupported !== undefined),
        };
      }
    }
    return paths;
  }
}

/** Empty where it is that of the whole document. */
function securityOf({ url, onRequest }: Route): Json {
  if (Object.hasOwn(OPEN_PATHS, url)) return { security: [] };
  if ([onRequest].flat().includes(forAdmin.onRequest))
    return { security: [{ AdminToken: [], ...(ADMINISTERED_BY_HEADER.test(url) ? { Team: [] } : {}) }] };
  return WIDE_PATHS.has(url) ? { security: [...OF_TEAM, { AdminToken: [] }] } : {};
}

function operationId(method: string, path: string): string {
  return `${method.toLowerCase()}${path.replaceAll(/[^A-Za-z0-9]+(\w)?/g, (_, first: string | undefined) => (first ?? '').toUpperCase())}`;
}

interface RouteSchema {
  readonly params?: unknown;
  readonly querystring?: unknown;
  readonly body?: unknown;
  readonly response?: unknown;
}

const ERROR_RESPONSE = {
  description: 'An error; `code` repeats the status, `error_code` is stable.',
  content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
};

function describe(url: string, { params, querystring, body, response }: RouteSchema, unsupported: boolean): Json {
  const inPath = fieldsOf(params ?? z.object({})).map(({ name, schema }) => ({
    name,
    in: 'path',
    required: true,
    schema,
  }));
  const named = new Set(inPath.map(({ name }) => name));
  // Routes that look at no parameter have them all the same.
  for (const [, name = ''] of url.matchAll(/:(\w+)/g))
    if (!named.has(name)) inPath.push({ name, in: 'path', required: true, schema: { type: 'string' } });
  const inQuery = fieldsOf(querystring ?? z.object({})).map(({ name, schema, required }) => ({
    name,
    in: 'query',
    required,
    schema,
  }));
  const parameters = [...inPath, ...inQuery];
  return {
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body instanceof z.ZodType
      ? {
          requestBody: {
            required: !body.safeParse(undefined).success,
            content: { 'application/json': { schema: toSchema(body, 'input') } },
          },
        }
      : {}),
    responses: {
      ...(unsupported ? { 501: ERROR_RESPONSE } : (OPEN_PATHS[url] ?? answersOf(response, headersOf(url, inQuery)))),
      default: ERROR_RESPONSE,
    },
  };
}

/** What lists say beside their items. */
function headersOf(url: string, query: readonly { readonly name: string }[]): Json {
  const header = (description: string, type: string) => ({ description, schema: { type } });
  return {
    ...(query.some(({ name }) => name === 'nextToken')
      ? { 'X-Next-Token': header('What to send as nextToken for the next page; missing on the last one.', 'string') }
      : {}),
    ...(url === '/v2/sandboxes' && query.length > 0
      ? { 'X-Total-Running': header('How many running sandboxes the filter matches in all.', 'integer') }
      : {}),
  };
}

function answersOf(response: unknown, headers: Json): Json {
  if (typeof response !== 'object' || response === null) return { 204: DONE };
  return Object.fromEntries(
    Object.entries(response).map(([status, schema]) => [
      status,
      {
        description: SUCCESS,
        ...(Object.keys(headers).length === 0 ? {} : { headers }),
        ...(schema instanceof z.ZodType && !(schema instanceof z.ZodVoid)
          ? { content: { 'application/json': { schema: toSchema(schema, 'output') } } }
          : {}),
      },
    ]),
  );
}

function fieldsOf(schema: unknown): { name: string; schema: unknown; required: boolean }[] {
  if (!(schema instanceof z.ZodType)) return [];
  const { properties, required } = toSchema(schema, 'input');
  if (typeof properties !== 'object' || properties === null) return [];
  const needed = new Set(Array.isArray(required) ? required : []);
  return Object.entries(properties).map(([name, field]) => ({ name, schema: field, required: needed.has(name) }));
}

/** Checks that JSON Schema cannot say are left out of the document; the server makes them all the same. */
function toSchema(schema: z.ZodType, io: 'input' | 'output'): Json {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { io, unrepresentable: 'any' });
  return json;
}
