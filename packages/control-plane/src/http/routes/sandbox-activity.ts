import { sandboxActivityBody, sandboxIdParams } from '@nestbox/contract/http';
import { getSandboxActivity } from '../../service/sandbox-activity.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { teamContext } from '../caller.ts';
import { requestSignal } from '../request-signal.ts';

/** `GET /sandboxes/{sandboxID}/activity`, Nestbox's own. */
export function sandboxActivityRoute(app: ApiServer, context: ServiceContext): void {
  app.get(
    '/sandboxes/:sandboxID/activity',
    { schema: { params: sandboxIdParams, response: { 200: sandboxActivityBody } } },
    (request, reply) =>
      getSandboxActivity(teamContext(context, request), request.params.sandboxID, requestSignal(reply)),
  );
}
