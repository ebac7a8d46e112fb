import { listedSandboxBody, sandboxListQuery, sandboxListQueryV1 } from '@nestbox/contract/http';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { listAllSandboxes, listSandboxes } from '../../service/list-sandboxes.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { teamContext } from '../caller.ts';

const answer = z.array(listedSandboxBody);

/** `GET /v2/sandboxes` in pages, and `GET /sandboxes` in one piece. */
export function listSandboxesRoute(app: ApiServer, context: ServiceContext): void {
  app.get(
    '/v2/sandboxes',
    { schema: { querystring: sandboxListQuery, response: { 200: answer } } },
    async (request, reply) => {
      const page = await listSandboxes(teamContext(context, request), request.query);
      reply.header('X-Total-Running', page.totalRunning);
      if (page.nextToken !== undefined) reply.header('X-Next-Token', page.nextToken);
      return sendSandboxes(reply, page.sandboxes);
    },
  );
  app.get(
    '/sandboxes',
    { schema: { querystring: sandboxListQueryV1, response: { 200: answer } } },
    async (request, reply) =>
      sendSandboxes(reply, await listAllSandboxes(teamContext(context, request), request.query.metadata)),
  );
}

function sendSandboxes(reply: FastifyReply, texts: readonly string[]): FastifyReply {
  return reply
    .type('application/json; charset=utf-8')
    .serializer(String)
    .send(`[${texts.join(',')}]`);
}
