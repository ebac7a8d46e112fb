import { NestboxError } from '@nestbox/contract';
import type { FastifyReply } from 'fastify';

/** Aborted when the client goes away before it has its answer. */
export function requestSignal(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  const { raw } = reply;
  raw.once('close', () => {
    if (!raw.writableFinished) controller.abort(new NestboxError('deadline_exceeded', 'The client went away.'));
  });
  return controller.signal;
}
