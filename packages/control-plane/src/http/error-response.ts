import { ERROR_CODES, type ErrorCode, NestboxError } from '@nestbox/contract';
import type { ErrorBody } from '@nestbox/contract/http';
import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod';

export interface ErrorResponse {
  readonly status: number;
  readonly body: ErrorBody;
  /** Whole seconds for `Retry-After`. Source: RFC 9110, section 10.2.3. */
  readonly retryAfterSec?: number;
}

/** The only place where an error becomes an HTTP answer of the control API. */
export function toErrorResponse(error: unknown): ErrorResponse {
  const known = toNestboxError(error);
  const { retryAfterMs } = known;
  const response = errorResponse(known.code, known.message);
  return retryAfterMs === undefined
    ? response
    : { ...response, retryAfterSec: Math.max(1, Math.ceil(retryAfterMs / 1000)) };
}

export function errorResponse(code: ErrorCode, message: string, status: number = ERROR_CODES[code]): ErrorResponse {
  return { status, body: { code: status, message, error_code: code } };
}

/** What fastify and node find wrong with a request before any of our code sees it. */
const FRAMEWORK_ERRORS: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: ['payload_too_large', 'The body is too large: at most 1 MiB is taken.'],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [
    'unsupported_media_type',
    'Send the body as JSON, with "Content-Type: application/json".',
  ],
  FST_ERR_CTP_INVALID_JSON_BODY: ['invalid_request', 'The body is not valid JSON.'],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: ['invalid_request', 'The body is not as long as "Content-Length" says.'],
  FST_ERR_BAD_URL: ['invalid_request', 'The path is not a valid URL path.'],
};

function toNestboxError(error: unknown): NestboxError {
  if (error instanceof NestboxError) return error;
  if (hasZodFastifySchemaValidationErrors(error)) {
    const [first] = error.validation;
    return new NestboxError(
      'invalid_request',
      describeViolation(error.validationContext, first?.instancePath ?? '', first?.message ?? 'is not valid'),
      { cause: error },
    );
  }
  if (error instanceof Error) {
    const [code, message] = FRAMEWORK_ERRORS['code' in error ? String(error.code) : ''] ?? [];
    if (code !== undefined && message !== undefined) return new NestboxError(code, message, { cause: error });
    if ('statusCode' in error && typeof error.statusCode === 'number' && error.statusCode < 500)
      return new NestboxError('invalid_request', error.message, { cause: error });
  }
  return NestboxError.from(error);
}

const PARTS: Readonly<Record<string, string>> = {
  body: 'field',
  querystring: 'query parameter',
  params: 'path parameter',
};

/** `/network/denyOut` and `Invalid input: expected array` make: The field "network.denyOut" is wrong: expected array. */
function describeViolation(part: string | undefined, pointer: string, message: string): string {
  const name = pointer.split('/').filter(Boolean).join('.');
  const reason = message.replace(/^Invalid input: /, '');
  if (name === '') return `The ${part === 'body' ? 'body' : 'request'} is wrong: ${reason}.`;
  return `The ${PARTS[part ?? ''] ?? 'field'} "${name.slice(0, 200)}" is wrong: ${reason}.`;
}
