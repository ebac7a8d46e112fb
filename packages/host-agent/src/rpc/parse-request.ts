import { type EgressSettings, NestboxError, parseEgressRules, parseSandboxId } from '@nestbox/contract';
import type {
  CreateSandboxRequest,
  ForkSandboxRequest,
  GetSandboxLogsRequest,
  PauseSandboxRequest,
  ResumeSandboxRequest,
  SnapshotSandboxRequest,
} from '@nestbox/contract/host';
import { LogLevel as WireLevel } from '@nestbox/contract/host';
import { z } from 'zod';
import type { ForkCopy, PauseOptions, ResumeOptions, SandboxSpec, SnapshotSpec } from '../sandbox/sandbox.ts';
import type { LogLevel } from '../telemetry/log-entry.ts';
import type { LogQuery } from '../telemetry/sandbox-logs.ts';

/** Travels as an HTTP header. */
const accessToken = z
  .string()
  .max(1024)
  .regex(/^[\x21-\x7e]*$/, 'holds characters that no header can carry');

/** Protobuf checks types only; what becomes a path, a header or an environment variable is checked here. */
const createFields = z.object({
  templateId: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}$/, 'is not the id or name of a template'),
  envVars: z.record(
    z
      .string()
      .max(1024)
      .regex(/^[^=\0]+$/, 'is not the name of an environment variable'),
    z
      .string()
      .max(131_072)
      .regex(/^[^\0]*$/, 'holds a NUL byte'),
  ),
  accessToken,
});

const snapshotFields = z.object({
  // Becomes the name of a folder.
  templateId: z.string().regex(/^[a-z0-9]{1,40}$/, 'must be 1 to 40 small letters and digits'),
  names: z.array(z.string().regex(/^[a-z0-9_.:/-]{1,200}$/, 'is not a name for a template')).max(16),
});

const MAX_COPIES = 100;

/** Throws invalid_request. */
export function parseCreateRequest(request: CreateSandboxRequest): SandboxSpec {
  const sandboxId = parseSandboxIdField(request);
  const fields = parse(createFields, request);
  return {
    sandboxId,
    templateId: fields.templateId,
    envVars: fields.envVars,
    accessToken: fields.accessToken === '' ? undefined : fields.accessToken,
    ...parseEgress(request),
    ...givenNotes(request),
  };
}

/** Throws invalid_request. */
export function parseEgress({
  allowInternetAccess,
  allowOut,
  denyOut,
}: Pick<CreateSandboxRequest, 'allowInternetAccess' | 'allowOut' | 'denyOut'>): EgressSettings {
  const settings = { allowInternetAccess, allowOut, denyOut };
  parseEgressRules(settings);
  return settings;
}

/** Throws invalid_request. */
export function parseForkCopies({ copies }: ForkSandboxRequest): ForkCopy[] {
  if (copies.length < 1 || copies.length > MAX_COPIES)
    throw new NestboxError('invalid_request', `A fork makes 1 to ${MAX_COPIES} copies, not ${copies.length}.`);
  return copies.map((copy) => {
    const token = parse(accessToken, copy.accessToken);
    return { sandboxId: parseSandboxIdField(copy), accessToken: token === '' ? undefined : token, ...givenNotes(copy) };
  });
}

export function parsePauseOptions(request: PauseSandboxRequest): PauseOptions {
  return { memory: request.memory, ...givenNotes(request) };
}

/** Throws invalid_request. */
export function parseResumeOptions(request: ResumeSandboxRequest): ResumeOptions {
  const token = request.accessToken === undefined ? undefined : parse(accessToken, request.accessToken);
  return {
    memory: request.memory,
    ...givenNotes(request),
    ...(token === undefined ? {} : { access: { token: token === '' ? undefined : token } }),
  };
}

function givenNotes({ notes }: { readonly notes: string }): { readonly notes?: string } {
  return notes === '' ? {} : { notes };
}

/** Throws invalid_request. */
export function parseSnapshotSpec(request: SnapshotSandboxRequest): SnapshotSpec {
  return parse(snapshotFields, request);
}

const MAX_LOG_LINES = 1000;

const LEVELS: Readonly<Record<WireLevel, LogLevel | undefined>> = {
  [WireLevel.UNSPECIFIED]: undefined,
  [WireLevel.DEBUG]: 'debug',
  [WireLevel.INFO]: 'info',
  [WireLevel.WARN]: 'warn',
  [WireLevel.ERROR]: 'error',
};

export function parseLogQuery(request: GetSandboxLogsRequest): LogQuery {
  return {
    cursorMs: request.cursorMs === undefined ? undefined : Number(request.cursorMs),
    limit: Math.min(request.limit, MAX_LOG_LINES),
    backward: request.backward,
    minLevel: LEVELS[request.minLevel],
    search: request.search,
  };
}

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new NestboxError('invalid_request', `${issue?.path.join('.')} ${issue?.message}`, { cause: parsed.error });
}

/** The host takes plain ids only: the id becomes a folder's name. Throws invalid_request. */
export function parseSandboxIdField(request: { sandboxId: string }): string {
  if (parseSandboxId(request.sandboxId) !== request.sandboxId)
    throw new NestboxError('invalid_request', 'sandbox_id must be 1 to 32 small letters and digits.');
  return request.sandboxId;
}
