import { NestboxError, parseSandboxId } from '@nestbox/contract';
import type { CreateSandboxRequest } from '@nestbox/contract/host';
import { z } from 'zod';
import type { SandboxSpec } from '../sandbox/sandbox.ts';

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
  // Travels as an HTTP header.
  accessToken: z
    .string()
    .max(1024)
    .regex(/^[\x21-\x7e]*$/, 'holds characters that no header can carry'),
});

/** Throws invalid_request. */
export function parseCreateRequest(request: CreateSandboxRequest): SandboxSpec {
  const sandboxId = parseSandboxIdField(request);
  const fields = createFields.safeParse(request);
  if (!fields.success) {
    const issue = fields.error.issues[0];
    throw new NestboxError('invalid_request', `${issue?.path.join('.')} ${issue?.message}`, { cause: fields.error });
  }
  return {
    sandboxId,
    templateId: fields.data.templateId,
    envVars: fields.data.envVars,
    accessToken: fields.data.accessToken === '' ? undefined : fields.data.accessToken,
    allowInternetAccess: request.allowInternetAccess,
  };
}

/** The host takes plain ids only: the id becomes a folder's name. Throws invalid_request. */
export function parseSandboxIdField(request: { sandboxId: string }): string {
  if (parseSandboxId(request.sandboxId) !== request.sandboxId)
    throw new NestboxError('invalid_request', 'sandbox_id must be 1 to 32 small letters and digits.');
  return request.sandboxId;
}
