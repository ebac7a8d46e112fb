import type { IncomingMessage } from 'node:http';
import type { AgentContext } from '../context.ts';
import { resolvePath } from '../paths.ts';
import { RestError } from '../rest.ts';
import { lookupUser, type SystemUser } from '../users.ts';
import { toRestError } from './file-error.ts';
import { checkFileAccess, type FileOperation } from './signature.ts';

/** The query of /files; undefined: not given, which is not the same as empty. */
export interface FileQuery {
  readonly path: string | undefined;
  readonly username: string | undefined;
  readonly signature: string | undefined;
  /** Unix seconds. */
  readonly expiration: bigint | undefined;
}

/** A query parameter of the wrong type, which envd answers in plain text. */
export class QueryTypeError extends Error {
  override readonly name = 'QueryTypeError';
}

const INT64_LIMIT = 2n ** 63n;

/** Throws QueryTypeError when `signature_expiration` is no 64-bit integer. */
export function parseFileQuery(query: URLSearchParams): FileQuery {
  const expiration = query.get('signature_expiration');
  return {
    path: query.get('path') ?? undefined,
    username: query.get('username') ?? undefined,
    signature: query.get('signature') ?? undefined,
    expiration: expiration === null ? undefined : parseSeconds(expiration),
  };
}

function parseSeconds(text: string): bigint {
  const seconds = /^[+-]?\d{1,19}$/.test(text) ? BigInt(text.replace(/^\+/, '')) : undefined;
  if (seconds === undefined || seconds >= INT64_LIMIT || seconds < -INT64_LIMIT)
    throw new QueryTypeError(`Invalid format for parameter signature_expiration: '${text}' is not an integer`);
  return seconds;
}

/** Refuses who may not use the files; without an access token everybody may. Throws RestError 401. */
export function authorize(
  request: IncomingMessage,
  query: FileQuery,
  operation: FileOperation,
  { state }: AgentContext,
): void {
  if (state.accessToken === undefined) return;
  const token = request.headersDistinct['x-access-token']?.[0];
  const { path = '', username = '', signature, expiration } = query;
  checkFileAccess({ path, operation, username, expiration }, { token, signature }, state.accessToken, Date.now());
}

/** The user a request for files is made as: the named one, else the default. Throws RestError 401 for unknown ones. */
export function fileUser(username: string | undefined, { state }: AgentContext): SystemUser {
  const name = username ?? state.defaultUser;
  const user = lookupUser(name);
  if (user === undefined) throw new RestError(401, `error looking up user '${name}': user: unknown user ${name}`);
  return user;
}

/** `resolvePath` for REST: throws RestError 400. */
export function filePath(path: string, user: SystemUser, { state }: AgentContext): string {
  try {
    return resolvePath(path, user, state.defaultWorkdir);
  } catch (error) {
    throw toRestError(error, 'error resolving path');
  }
}
