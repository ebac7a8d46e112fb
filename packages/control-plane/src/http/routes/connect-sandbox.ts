import { connectSandboxBody, connectSandboxV2Body, sandboxBody, sandboxIdParams } from '@nestbox/contract/http';
import { connectSandbox } from '../../service/connect-sandbox.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { viewSandbox } from '../sandbox-views.ts';

/** `POST /sandboxes/{sandboxID}/connect`, and the same under `/v2` with an optional body. */
export function connectSandboxRoute(app: ApiServer, context: ServiceContext): void {
  app.post(
    '/sandboxes/:sandboxID/connect',
    { schema: { params: sandboxIdParams, body: connectSandboxBody, response: { 200: sandboxBody } } },
    async (request) =>
      viewSandbox(context, await connectSandbox(context, request.params.sandboxID, request.body.timeout)),
  );
  app.post(
    '/v2/sandboxes/:sandboxID/connect',
    { schema: { params: sandboxIdParams, body: connectSandboxV2Body, response: { 200: sandboxBody } } },
    async (request) =>
      viewSandbox(context, await connectSandbox(context, request.params.sandboxID, request.body.timeout)),
  );
}
