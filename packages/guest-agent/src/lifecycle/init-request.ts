import { RestError } from '../rest.ts';
import { parseTimestamp } from './timestamp.ts';

/** The kernel's pool holds no more than 32; the host sends 64. */
const MAX_ENTROPY_BYTES = 512;
const MAX_ENTROPY_LENGTH = 4 * Math.ceil(MAX_ENTROPY_BYTES / 3);

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
  /** Unix time in microseconds. */
  readonly timestampUs: number | undefined;
  readonly defaultUser: string | undefined;
  readonly defaultWorkdir: string | undefined;
  readonly hyperloopIp: string | undefined;
  readonly lifecycleId: string | undefined;
  readonly sandboxId: string | undefined;
  readonly templateId: string | undefined;
  readonly proxyDomain: string | undefined;
  readonly caBundle: string | undefined;
  /** Fresh random bytes of the host, few or none, in base64. */
  readonly entropy: string;
  readonly volumeMounts: readonly VolumeMount[];
}

/**
 * Parses the body of /init, each field in any of its spellings; an empty body is as good as `{}`. Throws RestError 400.
 *
 * By hand and not by a schema: a schema of so many fields took a quarter of the whole answer on an emulated processor that
 * was just restored.
 */
export function parseInitRequest(bytes: Buffer): InitRequest {
  const fields = parseObject(bytes);
  const timestamp = text(fields, 'timestamp');
  const timestampUs = timestamp === undefined ? undefined : parseTimestamp(timestamp);
  if (timestamp !== undefined && timestampUs === undefined) throw new RestError(400, 'timestamp is no RFC 3339 time');
  const entropy = text(fields, 'entropy') ?? '';
  if (entropy.length > MAX_ENTROPY_LENGTH) throw new RestError(400, `entropy is more than ${MAX_ENTROPY_BYTES} bytes`);
  return {
    accessToken: text(fields, 'accessToken', 'access_token'),
    envVars: variables(fields, 'envVars') ?? variables(fields, 'env_vars'),
    timestampUs,
    defaultUser: text(fields, 'defaultUser', 'default_user'),
    defaultWorkdir: text(fields, 'defaultWorkdir', 'default_workdir'),
    hyperloopIp: text(fields, 'hyperloopIP', 'hyperloop_ip'),
    lifecycleId: text(fields, 'lifecycleID', 'lifecycleId', 'lifecycle_id'),
    sandboxId: text(fields, 'sandboxId', 'sandboxID', 'sandbox_id'),
    templateId: text(fields, 'templateId', 'templateID', 'template_id'),
    proxyDomain: text(fields, 'proxyDomain', 'proxy_domain'),
    caBundle: text(fields, 'caBundle', 'ca_bundle'),
    entropy,
    volumeMounts: volumes(fields, 'volumeMounts') ?? volumes(fields, 'volume_mounts') ?? [],
  };
}

type Fields = Readonly<Record<string, unknown>>;

function parseObject(bytes: Buffer): Fields {
  let json: unknown = {};
  try {
    if (bytes.length > 0) json = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new RestError(400, 'the body is no JSON', { cause });
  }
  if (!isObject(json)) throw new RestError(400, 'the body is no JSON object');
  return json;
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The first of the spellings that says something. */
function text(fields: Fields, ...names: readonly string[]): string | undefined {
  let found: string | undefined;
  for (const name of names) {
    const value = fields[name];
    if (value === undefined || value === null) continue;
    if (typeof value !== 'string') throw new RestError(400, `${name} is no text`);
    if (value !== '') found ??= value;
  }
  return found;
}

function variables(fields: Fields, name: string): Record<string, string> | undefined {
  const value = fields[name];
  if (value === undefined || value === null) return undefined;
  if (!isObject(value)) throw new RestError(400, `${name} is no object`);
  const read: Record<string, string> = {};
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') throw new RestError(400, `${name}.${key} is no text`);
    read[key] = text;
  }
  return read;
}

function volumes(fields: Fields, name: string): VolumeMount[] | undefined {
  const value = fields[name];
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value)) throw new RestError(400, `${name} is no list`);
  return value.map((entry: unknown) => {
    const { nfs_target, path } = isObject(entry) ? entry : {};
    if (typeof nfs_target !== 'string' || typeof path !== 'string') {
      throw new RestError(400, `${name}: a volume needs nfs_target and path`);
    }
    return { nfs_target, path };
  });
}
