import { ERROR_CODES, type ErrorCode, NestboxError } from '@nestbox/contract';
import type { ErrorBody } from '@nestbox/contract/http';
import type { FastifySchemaValidationError } from 'fastify';
import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod';
import { z } from 'zod';

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
    return new NestboxError('invalid_request', describeViolation(error.validationContext, first), { cause: error });
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
function describeViolation(part: string | undefined, violation: Violation | undefined): string {
  const name = (violation?.instancePath ?? '').split('/').filter(Boolean).join('.').slice(0, SHOWN_NAME_LENGTH);
  const what =
    name === '' ? `The ${part === 'body' ? 'body' : 'request'}` : `The ${PARTS[part ?? ''] ?? 'field'} "${name}"`;
  const reason = reasonOf(violation).replace(/^Invalid input: /, '');
  const missing = MISSING.exec(reason)?.[1];
  return missing === undefined ? `${what} is wrong: ${reason}.` : `${what} is missing: ${missing}.`;
}

/** As Zod says of what is not there at all. */
const MISSING = /^(expected .*), received undefined$/;
const SHOWN_NAME_LENGTH = 200;

type Violation = Pick<FastifySchemaValidationError, 'instancePath' | 'keyword' | 'message' | 'params'>;

/** What is wrong with one of several alternatives, or with the name of an entry, stands within. */
const withinAlternatives = z.object({
  errors: z.tuple([z.tuple([z.object({ message: z.string() })]).rest(z.unknown())]).rest(z.unknown()),
});
const withinName = z.object({ issues: z.tuple([z.object({ message: z.string() })]).rest(z.unknown()) });

function reasonOf(violation: Violation | undefined): string {
  const { keyword, message = 'not valid', params } = violation ?? {};
  if (keyword === 'invalid_union') return withinAlternatives.safeParse(params).data?.errors[0][0].message ?? message;
  if (keyword !== 'invalid_key') return message;
  const ofName = withinName.safeParse(params).data?.issues[0].message;
  return ofName === undefined ? message : `its name: ${ofName}`;
}
