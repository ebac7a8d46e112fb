import { parseSandboxId } from '@nestbox/contract';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { LastCalls } from '../service/last-calls.ts';

/** Counts a call that did something with a sandbox as activity; looking at it, and ending it, are none. */
export function noteCall(calls: LastCalls, request: FastifyRequest, reply: FastifyReply): void {
  if (request.method === 'GET' || request.method === 'DELETE' || reply.statusCode >= 400) return;
  const { params } = request;
  if (typeof params !== 'object' || params === null || !('sandboxID' in params)) return;
  const sandboxId = parseSandboxId(String(params.sandboxID));
  if (sandboxId !== undefined) calls.note(sandboxId);
}
