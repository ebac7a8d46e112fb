import { Code, ConnectError } from '@connectrpc/connect';
import { NestboxError } from '@nestbox/contract';
import { errorCode } from './error-code.ts';

/** The wire's code for failed system calls whose meaning depends on the method. */
export type CodeByErrno = Readonly<Record<string, Code>>;

const COMMON: CodeByErrno = { ENAMETOOLONG: Code.InvalidArgument };

/** The one place where the filesystem service's errors become those of the wire; what is not listed is internal. */
export function toRpcError(error: unknown, codes: CodeByErrno = {}): ConnectError {
  if (error instanceof ConnectError) return error;
  if (error instanceof NestboxError) {
    const code = error.code === 'invalid_request' ? Code.InvalidArgument : Code.Internal;
    return new ConnectError(error.message, code, undefined, undefined, error);
  }
  const errno = errorCode(error);
  const code = (errno === undefined ? undefined : (codes[errno] ?? COMMON[errno])) ?? Code.Internal;
  const message = error instanceof Error ? error.message : String(error);
  const text = code === Code.NotFound ? `file not found: ${message}` : message;
  return new ConnectError(text, code, undefined, undefined, error);
}

/** Lets a method throw errors of the system: they are mapped on their way out. */
export function mapped<Args extends unknown[], Result>(
  codes: CodeByErrno,
  method: (...args: Args) => Promise<Result>,
): (...args: Args) => Promise<Result> {
  return async (...args) => {
    try {
      return await method(...args);
    } catch (error) {
      throw toRpcError(error, codes);
    }
  };
}
