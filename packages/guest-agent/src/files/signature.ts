import { createHash } from 'node:crypto';
import { secretsEqual } from '../auth.ts';
import { RestError } from '../rest.ts';

export type FileOperation = 'read' | 'write';

/** What a signed file URL is about, each as it stands in the query, not resolved; absent parts are empty. */
export interface SignedRequest {
  readonly path: string;
  readonly operation: FileOperation;
  readonly username: string;
  /** Unix seconds; undefined: the URL never expires. */
  readonly expiration: bigint | undefined;
}

/** The `signature` of a file URL: `v1_` and unpadded standard base64 of a SHA-256 (envd-interface.md, section 1.2). */
export function fileSignature({ path, operation, username, expiration }: SignedRequest, token: string): string {
  const parts = [path, operation, username, token];
  if (expiration !== undefined) parts.push(String(expiration));
  return `v1_${createHash('sha256').update(parts.join(':')).digest('base64').replace(/=+$/, '')}`;
}

/** How a request for files proves that it may be made. */
export interface FileCredentials {
  /** The header X-Access-Token. */
  readonly token: string | undefined;
  /** The query parameter. */
  readonly signature: string | undefined;
}

/** Throws RestError 401 unless the header carries `token`, or the URL is signed with it and has not expired. */
export function checkFileAccess(request: SignedRequest, given: FileCredentials, token: string, nowMs: number): void {
  if (given.token) {
    if (secretsEqual(given.token, token)) return;
    throw new RestError(401, 'access token present in header but does not match');
  }
  if (given.signature === undefined) throw new RestError(401, 'missing signature query parameter');
  if (!secretsEqual(given.signature, fileSignature(request, token))) throw new RestError(401, 'invalid signature');
  if (request.expiration !== undefined && request.expiration < BigInt(Math.floor(nowMs / 1000)))
    throw new RestError(401, 'signature is already expired');
}
