import { readFile } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { STOP_TIMEOUT_MS } from '@nestbox/kit';
import { z } from 'zod';
import { DEFAULT_AUDIT_LIMITS } from './service/audit-trail.ts';

const listenAddress = z.strictObject({ host: z.string().min(1), port: z.int().min(0).max(65_535) });

/** A hundred years. */
const MAX_AUDIT_DAYS = 36_500;

const remoteHost = z.strictObject({
  id: z.string().min(1),
  /** Base URL of the host agent's RPC. */
  url: z.url({ protocol: /^https?$/ }),
  /** Sent to the host agent as a bearer token. */
  token: z.string().min(1),
  proxy: z.union([z.strictObject({ socketPath: z.string().min(1) }), listenAddress]),
});

/** The file that the standalone daemon is started with. It holds secrets: keep it readable by its user alone. */
const daemonConfig = z
  .strictObject({
    databasePath: z.string().min(1),
    apiKey: z.string().regex(/^e2b_[0-9a-f]{40}$/, 'must be "e2b_" and 40 hexadecimal digits'),
    /** What administrators send in `X-Admin-Token`; without it the routes for them are closed. */
    adminToken: z.string().min(32).optional(),
    tokenSeed: z.string().min(32),
    api: listenAddress.default({ host: '127.0.0.1', port: 3000 }),
    edge: listenAddress.default({ host: '127.0.0.1', port: 3001 }),
    /** Where Prometheus may read; whoever reaches it can. */
    metrics: listenAddress.optional(),
    domain: z.hostname().toLowerCase().optional(),
    /** API and sandboxes on one port over TLS, under `domain`. */
    tls: listenAddress.extend({ certPath: z.string().min(1), keyPath: z.string().min(1) }).optional(),
    maxTimeoutSec: z.int().min(1).optional(),
    /** How long a stop waits for requests under way. */
    stopTimeoutSec: z
      .int()
      .min(0)
      .max(3600)
      .default(STOP_TIMEOUT_MS / 1000),
    /** How long after a server's death another one on the same database takes over; the same for all. */
    leaseMs: z.int().min(1000).max(600_000).optional(),
    /** How much of the audit trail is kept. */
    audit: z
      .strictObject({
        keepDays: z.int().min(1).max(MAX_AUDIT_DAYS).default(DEFAULT_AUDIT_LIMITS.keepDays),
        maxEntries: z.int().min(1).default(DEFAULT_AUDIT_LIMITS.maxEntries),
      })
      .prefault({}),
    logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'),
    hosts: z.array(remoteHost).min(1),
  })
  .refine(({ domain, tls }) => tls === undefined || domain !== undefined, { path: ['tls'], error: 'needs "domain"' });

export type DaemonConfig = z.infer<typeof daemonConfig>;
export type RemoteHost = z.infer<typeof remoteHost>;

/** Throws `invalid_request` with a line for each mistake. */
export async function readDaemonConfig(path: string): Promise<DaemonConfig> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new NestboxError('invalid_request', `The configuration ${path} cannot be read.`, { cause });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new NestboxError('invalid_request', `The configuration ${path} is not valid JSON.`, { cause });
  }
  const parsed = daemonConfig.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new NestboxError('invalid_request', `The configuration ${path} is wrong:\n${z.prettifyError(parsed.error)}`);
}
