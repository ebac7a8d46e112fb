import { sandboxIdParams } from '@nestbox/contract/http';
import { killSandbox } from '../../service/kill-sandbox.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { teamContext } from '../caller.ts';

export function killSandboxRoute(app: ApiServer, context: ServiceContext): void {
  app.delete('/sandboxes/:sandboxID', { schema: { params: sandboxIdParams } }, async (request, reply) => {
    await killSandbox(teamContext(context, request), request.params.sandboxID);
    return reply.code(204).send();
  });
}
