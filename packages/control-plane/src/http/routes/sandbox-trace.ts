import { sandboxIdParams, sandboxTraceBody } from '@nestbox/contract/http';
import { getSandboxTrace } from '../../service/sandbox-trace.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { teamContext } from '../caller.ts';
import { requestSignal } from '../request-signal.ts';

/** `GET /sandboxes/{sandboxID}/trace`, Nestbox's own. */
export function sandboxTraceRoute(app: ApiServer, context: ServiceContext): void {
  app.get(
    '/sandboxes/:sandboxID/trace',
    { schema: { params: sandboxIdParams, response: { 200: sandboxTraceBody } } },
    (request, reply) => getSandboxTrace(teamContext(context, request), request.params.sandboxID, requestSignal(reply)),
  );
}
