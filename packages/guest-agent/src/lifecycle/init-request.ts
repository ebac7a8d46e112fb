import * as z from 'zod/mini';
import { RestError } from '../rest.ts';
import { parseTimestamp } from './timestamp.ts';

const text = z.optional(z.nullable(z.string()));

const body = z.object({
  accessToken: text,
  access_token: text,
  envVars: z.optional(z.nullable(z.record(z.string(), z.string()))),
  env_vars: z.optional(z.nullable(z.record(z.string(), z.string()))),
  timestamp: text,
  defaultUser: text,
  default_user: text,
  defaultWorkdir: text,
  default_workdir: text,
  hyperloopIP: text,
  hyperloop_ip: text,
  lifecycleID: text,
  lifecycleId: text,
  lifecycle_id: text,
  sandboxId: text,
  sandboxID: text,
  sandbox_id: text,
  templateId: text,
  templateID: text,
  template_id: text,
  proxyDomain: text,
  proxy_domain: text,
  caBundle: text,
  ca_bundle: text,
  volumeMounts: z.optional(z.nullable(z.array(z.object({ nfs_target: z.string(), path: z.string() })))),
  volume_mounts: z.optional(z.nullable(z.array(z.object({ nfs_target: z.string(), path: z.string() })))),
});

export interface VolumeMount {
  /** `server:/exported/path`. */
  readonly nfs_target: string;
  /** Where it appears in the guest. */
  readonly path: string;
}

/** The body of /init; what is absent or empty is undefined. */
export interface InitRequest {
  readonly accessToken: string | undefined;
  readonly envVars: Readonly<Record<string, string>> | undefined;
  /** Unix time in nanoseconds. */
  readonly timestampNs: bigint | undefined;
  readonly defaultUser: string | undefined;
  readonly defaultWorkdir: string | undefined;
  readonly hyperloopIp: string | undefined;
  readonly lifecycleId: string | undefined;
  readonly sandboxId: string | undefined;
  readonly templateId: string | undefined;
  readonly proxyDomain: string | undefined;
  readonly caBundle: string | undefined;
  readonly volumeMounts: readonly VolumeMount[];
}

/** Parses the body of /init; an empty one is as good as `{}`. Throws RestError 400. */
export function parseInitRequest(bytes: Buffer): InitRequest {
  const fields = parseBody(bytes);
  const timestampNs = fields.timestamp ? parseTimestamp(fields.timestamp) : undefined;
  if (fields.timestamp && timestampNs === undefined) throw new RestError(400, 'timestamp is no RFC 3339 time');
  return {
    accessToken: fields.accessToken || fields.access_token || undefined,
    envVars: fields.envVars ?? fields.env_vars ?? undefined,
    timestampNs,
    defaultUser: fields.defaultUser || fields.default_user || undefined,
    defaultWorkdir: fields.defaultWorkdir || fields.default_workdir || undefined,
    hyperloopIp: fields.hyperloopIP || fields.hyperloop_ip || undefined,
    lifecycleId: fields.lifecycleID || fields.lifecycleId || fields.lifecycle_id || undefined,
    sandboxId: fields.sandboxId || fields.sandboxID || fields.sandbox_id || undefined,
    templateId: fields.templateId || fields.templateID || fields.template_id || undefined,
    proxyDomain: fields.proxyDomain || fields.proxy_domain || undefined,
    caBundle: fields.caBundle || fields.ca_bundle || undefined,
    volumeMounts: fields.volumeMounts ?? fields.volume_mounts ?? [],
  };
}

function parseBody(bytes: Buffer): z.infer<typeof body> {
  let json: unknown = {};
  try {
    if (bytes.length > 0) json = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new RestError(400, 'the body is no JSON', { cause });
  }
  const parsed = body.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new RestError(400, `${issue?.path.join('.') || 'body'}: ${issue?.message ?? 'is not valid'}`);
}
