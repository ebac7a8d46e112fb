import {
  type ConnectSandbox,
  connectSandboxBody,
  connectSandboxV2Body,
  type Sandbox,
  sandboxBody,
  sandboxIdParams,
} from '@nestbox/contract/http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { connectSandbox } from '../../service/connect-sandbox.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import { Timings } from '../../service/timings.ts';
import type { ApiServer } from '../api-server.ts';
import { teamContext } from '../caller.ts';
import { viewSandbox } from '../sandbox-views.ts';
import { sendTimings } from '../server-timing.ts';

const response = { 200: sandboxBody, 201: sandboxBody };

/** `POST /sandboxes/{sandboxID}/connect`, and the same under `/v2` with an optional body. 201 when it was resumed. */
export function connectSandboxRoute(app: ApiServer, context: ServiceContext): void {
  const connect = async (
    request: FastifyRequest,
    reply: FastifyReply,
    sandboxId: string,
    body: ConnectSandbox,
  ): Promise<Sandbox> => {
    const timings = new Timings();
    const { record, resumed } = await connectSandbox(teamContext(context, request), sandboxId, body, timings);
    sendTimings(reply, timings);
    reply.code(resumed ? 201 : 200);
    return viewSandbox(context, record);
  };
  app.post(
    '/sandboxes/:sandboxID/connect',
    { schema: { params: sandboxIdParams, body: connectSandboxBody, response } },
    (request, reply) => connect(request, reply, request.params.sandboxID, request.body),
  );
  app.post(
    '/v2/sandboxes/:sandboxID/connect',
    { schema: { params: sandboxIdParams, body: connectSandboxV2Body, response } },
    (request, reply) => connect(request, reply, request.params.sandboxID, request.body),
  );
}
