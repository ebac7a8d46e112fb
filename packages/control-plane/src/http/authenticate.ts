import { NestboxError } from '@nestbox/contract';
import type { FastifyRequest } from 'fastify';
import type { ApiKeys } from '../service/api-keys.ts';

/**
 * An API key in `X-API-Key`, or as a bearer token, which is where clients put access tokens: one of them must be valid.
 * Throws `unauthorized`.
 */
export function authenticate(apiKeys: ApiKeys, request: FastifyRequest): void {
  const presented = [request.headers['x-api-key'], bearerToken(request.headers.authorization)];
  const keys = presented.filter((key) => typeof key === 'string' && key !== '');
  if (keys.length === 0)
    throw new NestboxError('unauthorized', 'Send an API key in the header "X-API-Key". "nestbox env" shows yours.');
  if (!keys.some((key) => typeof key === 'string' && apiKeys.accepts(key)))
    throw new NestboxError('unauthorized', 'The API key is not valid. "nestbox env" shows the one of this server.');
}

function bearerToken(authorization: string | undefined): string | undefined {
  return /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1];
}
