import { sandboxDetailBody, sandboxIdParams } from '@nestbox/contract/http';
import { requireKnown } from '../../service/sandbox-lookup.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { teamContext } from '../caller.ts';
import { viewSandboxDetail } from '../sandbox-views.ts';

export function getSandboxRoute(app: ApiServer, context: ServiceContext): void {
  app.get(
    '/sandboxes/:sandboxID',
    { schema: { params: sandboxIdParams, response: { 200: sandboxDetailBody } } },
    async (request) =>
      viewSandboxDetail(context, await requireKnown(teamContext(context, request), request.params.sandboxID)),
  );
}
