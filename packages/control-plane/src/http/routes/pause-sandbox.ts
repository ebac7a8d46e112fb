import { sandboxIdParams, sandboxPauseBody } from '@nestbox/contract/http';
import { pauseSandbox } from '../../service/pause-sandbox.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import { checkPause } from '../../service/supported-features.ts';
import { Timings } from '../../service/timings.ts';
import type { ApiServer } from '../api-server.ts';
import { teamContext } from '../caller.ts';
import { sendTimings } from '../server-timing.ts';

export function pauseSandboxRoute(app: ApiServer, context: ServiceContext): void {
  app.post(
    '/sandboxes/:sandboxID/pause',
    { schema: { params: sandboxIdParams, body: sandboxPauseBody } },
    async (request, reply) => {
      checkPause(request.body);
      const timings = new Timings();
      await pauseSandbox(teamContext(context, request), request.params.sandboxID, request.body.memory, timings);
      sendTimings(reply, timings);
      return reply.code(204).send();
    },
  );
}
