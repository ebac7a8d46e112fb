import type { FastifyReply, FastifyRequest } from 'fastify';
import type { LastCalls } from '../service/last-calls.ts';
import { sandboxOf } from './sandbox-of-request.ts';

/** Counts a call that did something with a sandbox as activity; looking at it, and ending it, are none. */
export function noteCall(calls: LastCalls, request: FastifyRequest, reply: FastifyReply): void {
  if (request.method === 'GET' || request.method === 'DELETE' || reply.statusCode >= 400) return;
  const sandboxId = sandboxOf(request);
  if (sandboxId !== undefined) calls.note(sandboxId);
}
