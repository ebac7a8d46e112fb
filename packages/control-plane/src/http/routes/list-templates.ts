import { templateBody, templateListQuery } from '@nestbox/contract/http';
import { z } from 'zod';
import { listTemplates, pageTemplates } from '../../service/list-templates.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { teamContext } from '../caller.ts';
import { requestSignal } from '../request-signal.ts';

const answer = z.array(templateBody);

/** `GET /v2/templates` in pages, and `GET /templates` in one piece. */
export function listTemplatesRoute(app: ApiServer, context: ServiceContext): void {
  app.get('/templates', { schema: { response: { 200: answer } } }, (request, reply) =>
    listTemplates(teamContext(context, request), requestSignal(reply)),
  );
  app.get(
    '/v2/templates',
    { schema: { querystring: templateListQuery, response: { 200: answer } } },
    async (request, reply) => {
      const page = await pageTemplates(teamContext(context, request), request.query, requestSignal(reply));
      if (page.nextToken !== undefined) reply.header('X-Next-Token', page.nextToken);
      return [...page.templates];
    },
  );
}
