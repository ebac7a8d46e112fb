import { sandboxForkBody, sandboxForkResultBody, sandboxIdParams } from '@nestbox/contract/http';
import { z } from 'zod';
import { forkSandbox } from '../../service/fork-sandbox.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import { Timings } from '../../service/timings.ts';
import type { ApiServer } from '../api-server.ts';
import { noteMade } from '../audit-requests.ts';
import { teamContext } from '../caller.ts';
import { toErrorResponse } from '../error-response.ts';
import { requestSignal } from '../request-signal.ts';
import { viewSandbox } from '../sandbox-views.ts';
import { sendTimings } from '../server-timing.ts';

export function forkSandboxRoute(app: ApiServer, context: ServiceContext): void {
  app.post(
    '/sandboxes/:sandboxID/fork',
    { schema: { params: sandboxIdParams, body: sandboxForkBody, response: { 201: z.array(sandboxForkResultBody) } } },
    async (request, reply) => {
      const timings = new Timings();
      const { sandboxID } = request.params;
      const results = await forkSandbox(
        teamContext(context, request),
        sandboxID,
        request.body,
        timings,
        requestSignal(reply),
      );
      noteMade(
        request,
        results.flatMap((result) => ('record' in result ? [result.record.id] : [])),
      );
      sendTimings(reply, timings);
      reply.code(201);
      return results.map((result) =>
        'record' in result
          ? { sandbox: viewSandbox(context, result.record) }
          : { error: toErrorResponse(result.error).body },
      );
    },
  );
}
