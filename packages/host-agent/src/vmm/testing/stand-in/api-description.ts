import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { checkValue, type Schema, schema } from './check-value.ts';

const operation = z.object({
  parameters: z
    .array(z.object({ in: z.string(), required: z.boolean().optional(), schema: schema.optional() }))
    .optional(),
  requestBody: z
    .object({ required: z.boolean().optional(), content: z.record(z.string(), z.object({ schema })) })
    .optional(),
  responses: z.record(z.string(), z.unknown()),
});

const METHODS = ['get', 'put', 'patch', 'post', 'delete'] as const;

/** What is read of a Swagger 2.0 (Firecracker) or OpenAPI 3.0 (Cloud Hypervisor) document. */
const description = z.object({
  info: z.object({ version: z.string() }),
  servers: z.array(z.object({ url: z.string() })).optional(),
  paths: z.record(z.string(), z.partialRecord(z.enum([...METHODS, 'summary', 'description']), z.unknown())),
  definitions: z.record(z.string(), schema).optional(),
  components: z.object({ schemas: z.record(z.string(), schema) }).optional(),
});

interface Operation {
  readonly method: string;
  readonly pattern: RegExp;
  readonly body: Schema | undefined;
  readonly bodyRequired: boolean;
  readonly statuses: ReadonlySet<string>;
}

/** A VMM's own description of its API, to hold requests and answers against. */
export class ApiDescription {
  readonly version: string;
  readonly #operations: readonly Operation[];
  readonly #definitions: ReadonlyMap<string, Schema>;

  constructor(yaml: string) {
    const document = description.parse(parse(yaml));
    this.version = document.info.version;
    const prefix = new URL(document.servers?.[0]?.url ?? 'http://localhost').pathname.replace(/\/$/, '');
    this.#definitions = new Map(Object.entries(document.definitions ?? document.components?.schemas ?? {}));
    this.#operations = Object.entries(document.paths).flatMap(([path, methods]) =>
      METHODS.filter((method) => methods[method] !== undefined).map((method) =>
        readOperation(prefix + path, method, operation.parse(methods[method])),
      ),
    );
  }

  /** Why this request is not as described; undefined when it is. */
  checkRequest(method: string, path: string, body: unknown): string | undefined {
    const paths = this.#operations.filter(({ pattern }) => pattern.test(path));
    if (paths.length === 0) return `there is no ${path}`;
    const found = paths.find((candidate) => candidate.method === method);
    if (found === undefined) return `${path} has no ${method}`;
    if (body === undefined) return found.bodyRequired ? `${method} ${path} needs a body` : undefined;
    if (found.body === undefined) return `${method} ${path} takes no body`;
    return checkValue(body, found.body, this.#definitions, 'body');
  }

  /** Why this status is none that the operation answers with. */
  checkStatus(method: string, path: string, status: number): string | undefined {
    const found = this.#operations.find((candidate) => candidate.method === method && candidate.pattern.test(path));
    if (found === undefined || found.statuses.has('default') || found.statuses.has(String(status))) return undefined;
    return `${method} ${path} never answers ${status}`;
  }
}

function readOperation(path: string, method: string, read: z.infer<typeof operation>): Operation {
  const inBody = read.parameters?.find((parameter) => parameter.in === 'body');
  const content = read.requestBody?.content['application/json'];
  return {
    method: method.toUpperCase(),
    pattern: new RegExp(`^${path.replaceAll(/\{[^}]+\}/g, '[^/]+')}$`),
    body: inBody?.schema ?? content?.schema,
    bodyRequired: inBody?.required ?? read.requestBody?.required ?? false,
    statuses: new Set(Object.keys(read.responses)),
  };
}

/**
 * Where a description is: `NESTBOX_VMM_API_DIR`, else `shared/vmm-api` beside or above this project. Undefined when there
 * is none; stand-ins then check what they know by themselves.
 */
export function findApiDescription(name: 'firecracker' | 'cloud-hypervisor'): string | undefined {
  const named = process.env.NESTBOX_VMM_API_DIR;
  if (named !== undefined) return join(named, `${name}.yaml`);
  for (let folder = import.meta.dirname; folder !== dirname(folder); folder = dirname(folder)) {
    const path = resolve(folder, 'shared', 'vmm-api', `${name}.yaml`);
    if (existsSync(path)) return path;
  }
  return undefined;
}

export function readApiDescription(path: string): ApiDescription {
  return new ApiDescription(readFileSync(path, 'utf8'));
}
