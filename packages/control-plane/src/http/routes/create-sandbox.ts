import { newSandboxBody, newSandboxV2Body, sandboxBody } from '@nestbox/contract/http';
import { createSandbox } from '../../service/create-sandbox.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { requestSignal } from '../request-signal.ts';
import { viewSandbox } from '../sandbox-views.ts';

/** `POST /sandboxes` and `POST /v2/sandboxes`; the second is always secure. */
export function createSandboxRoute(app: ApiServer, context: ServiceContext): void {
  app.post(
    '/sandboxes',
    { schema: { body: newSandboxBody, response: { 201: sandboxBody } } },
    async (request, reply) => {
      const record = await createSandbox(context, request.body, requestSignal(reply));
      return reply.code(201).send(viewSandbox(context, record));
    },
  );
  app.post(
    '/v2/sandboxes',
    { schema: { body: newSandboxV2Body, response: { 201: sandboxBody } } },
    async (request, reply) => {
      const record = await createSandbox(context, { ...request.body, secure: true }, requestSignal(reply));
      return reply.code(201).send(viewSandbox(context, record));
    },
  );
}
