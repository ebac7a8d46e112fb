import { NestboxError } from '@nestbox/contract';
import { errorCode } from '../filesystem/error-code.ts';
import { RestError } from '../rest.ts';

/**
 * The one place where failed system calls on files become answers: no space is 507, a name that no file can have is 400,
 * what is not known better is 500.
 * @param doing what failed, in the words of envd: `error opening file`
 */
export function toRestError(error: unknown, doing: string): RestError {
  if (error instanceof RestError) return error;
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof NestboxError) return new RestError(error.httpStatus, message, { cause: error });
  switch (errorCode(error)) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new RestError(507, 'not enough disk space available', { cause: error });
    case 'ENAMETOOLONG':
      return new RestError(400, `${doing}: the path is too long`, { cause: error });
    default:
      return new RestError(500, `${doing}: ${message}`, { cause: error });
  }
}

/** Runs one step of a request; what it throws comes out as RestError. */
export async function attempt<Result>(doing: string, step: () => Promise<Result>): Promise<Result> {
  try {
    return await step();
  } catch (error) {
    throw toRestError(error, doing);
  }
}
