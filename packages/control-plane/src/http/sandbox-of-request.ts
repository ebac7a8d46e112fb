import { parseSandboxId } from '@nestbox/contract';
import type { FastifyRequest } from 'fastify';

/** The id of the sandbox that the path of a request names, be there one or not. */
export function sandboxOf({ params }: Pick<FastifyRequest, 'params'>): string | undefined {
  if (typeof params !== 'object' || params === null || !('sandboxID' in params)) return undefined;
  return parseSandboxId(String(params.sandboxID));
}
