import { type NewSandbox, newSandboxBody, newSandboxV2Body, type Sandbox, sandboxBody } from '@nestbox/contract/http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { createSandbox } from '../../service/create-sandbox.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import { Timings } from '../../service/timings.ts';
import type { ApiServer } from '../api-server.ts';
import { noteMade } from '../audit-requests.ts';
import { teamContext } from '../caller.ts';
import { requestSignal } from '../request-signal.ts';
import { viewSandbox } from '../sandbox-views.ts';
import { sendTimings } from '../server-timing.ts';

const response = { 201: sandboxBody };

/** `POST /sandboxes` and `POST /v2/sandboxes`; the second is always secure. */
export function createSandboxRoute(app: ApiServer, context: ServiceContext): void {
  const create = async (request: FastifyRequest, reply: FastifyReply, body: NewSandbox): Promise<Sandbox> => {
    const timings = new Timings();
    const record = await createSandbox(teamContext(context, request), body, timings, requestSignal(reply));
    noteMade(request, [record.id]);
    sendTimings(reply, timings);
    // What the client would have started in the sandbox is up to the client and the template.
    if (body.mcp !== undefined && body.mcp !== null) reply.header('X-Nestbox-Ignored', 'mcp');
    reply.code(201);
    return viewSandbox(context, record);
  };
  app.post('/sandboxes', { schema: { body: newSandboxBody, response } }, (request, reply) =>
    create(request, reply, request.body),
  );
  app.post('/v2/sandboxes', { schema: { body: newSandboxV2Body, response } }, (request, reply) =>
    create(request, reply, { ...request.body, secure: true }),
  );
}
