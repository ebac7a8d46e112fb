import { templateAliasBody, templateAliasParams } from '@nestbox/contract/http';
import { resolveTemplateAlias } from '../../service/list-templates.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { teamContext } from '../caller.ts';
import { requestSignal } from '../request-signal.ts';

export function templateAliasRoute(app: ApiServer, context: ServiceContext): void {
  app.get(
    '/templates/aliases/:alias',
    { schema: { params: templateAliasParams, response: { 200: templateAliasBody } } },
    async (request, reply) => ({
      templateID: await resolveTemplateAlias(teamContext(context, request), request.params.alias, requestSignal(reply)),
      public: false,
    }),
  );
}
