import { isAbsolute, join, resolve } from 'node:path';
import { NestboxError } from '@nestbox/contract';

/**
 * Turns a path of a request into the path that is used (envd: `internal/permissions/path.go`):
 * empty means the default workdir, or the user's home without one; `~` and `~/…` mean the user's home;
 * absolute stays exactly as written (`..` and doubled slashes included); relative is taken from the user's home, never
 * from the default workdir.
 *
 * Throws NestboxError `invalid_request` (RPC invalid_argument, REST 400) for `~name` and for a path with a NUL byte.
 */
export function resolvePath(path: string, user: { readonly home: string }, defaultWorkdir: string | undefined): string {
  const asked = path === '' ? (defaultWorkdir ?? '') : path;
  if (asked.includes('\0'))
    throw new NestboxError('invalid_request', 'The path contains a NUL byte, which no file name can have.');
  if (asked.startsWith('~')) {
    if (asked.length > 1 && asked[1] !== '/' && asked[1] !== '\\')
      throw new NestboxError(
        'invalid_request',
        `failed to expand path '${asked}': cannot expand user-specific home dir`,
      );
    return resolve('/', join(user.home, asked.slice(1)));
  }
  if (isAbsolute(asked)) return asked;
  return resolve('/', join(user.home, asked));
}
