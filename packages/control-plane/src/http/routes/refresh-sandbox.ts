import { sandboxIdParams, sandboxRefreshBody } from '@nestbox/contract/http';
import { refreshSandbox } from '../../service/refresh-sandbox.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { teamContext } from '../caller.ts';

export function refreshSandboxRoute(app: ApiServer, context: ServiceContext): void {
  app.post(
    '/sandboxes/:sandboxID/refreshes',
    { schema: { params: sandboxIdParams, body: sandboxRefreshBody } },
    async (request, reply) => {
      await refreshSandbox(teamContext(context, request), request.params.sandboxID, request.body.duration);
      return reply.code(204).send();
    },
  );
}
