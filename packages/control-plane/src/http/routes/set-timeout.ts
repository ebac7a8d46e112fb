import { sandboxIdParams, sandboxTimeoutBody } from '@nestbox/contract/http';
import type { ServiceContext } from '../../service/service-context.ts';
import { setSandboxTimeout } from '../../service/set-timeout.ts';
import type { ApiServer } from '../api-server.ts';
import { teamContext } from '../caller.ts';

export function setTimeoutRoute(app: ApiServer, context: ServiceContext): void {
  app.post(
    '/sandboxes/:sandboxID/timeout',
    { schema: { params: sandboxIdParams, body: sandboxTimeoutBody } },
    async (request, reply) => {
      await setSandboxTimeout(teamContext(context, request), request.params.sandboxID, request.body.timeout);
      return reply.code(204).send();
    },
  );
}
