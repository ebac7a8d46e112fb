import { resumedSandboxBody, sandboxBody, sandboxIdParams } from '@nestbox/contract/http';
import { resumeSandbox } from '../../service/resume-sandbox.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import { Timings } from '../../service/timings.ts';
import type { ApiServer } from '../api-server.ts';
import { teamContext } from '../caller.ts';
import { viewSandbox } from '../sandbox-views.ts';
import { sendTimings } from '../server-timing.ts';

export function resumeSandboxRoute(app: ApiServer, context: ServiceContext): void {
  app.post(
    '/sandboxes/:sandboxID/resume',
    { schema: { params: sandboxIdParams, body: resumedSandboxBody, response: { 201: sandboxBody } } },
    async (request, reply) => {
      const timings = new Timings();
      const record = await resumeSandbox(
        teamContext(context, request),
        request.params.sandboxID,
        request.body,
        timings,
      );
      sendTimings(reply, timings);
      return reply.code(201).send(viewSandbox(context, record));
    },
  );
}
