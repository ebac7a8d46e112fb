import { sandboxIdParams, sandboxNetworkUpdate } from '@nestbox/contract/http';
import type { ServiceContext } from '../../service/service-context.ts';
import { updateNetwork } from '../../service/update-network.ts';
import type { ApiServer } from '../api-server.ts';
import { teamContext } from '../caller.ts';

export function updateNetworkRoute(app: ApiServer, context: ServiceContext): void {
  app.put(
    '/sandboxes/:sandboxID/network',
    { schema: { params: sandboxIdParams, body: sandboxNetworkUpdate } },
    async (request, reply) => {
      await updateNetwork(teamContext(context, request), request.params.sandboxID, request.body);
      return reply.code(204).send();
    },
  );
}
