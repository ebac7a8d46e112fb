import { templateIdParams } from '@nestbox/contract/http';
import { deleteTemplate } from '../../service/delete-template.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { teamContext } from '../caller.ts';

/** `DELETE /templates/{templateID}`, which is how clients delete a snapshot. */
export function deleteTemplateRoute(app: ApiServer, context: ServiceContext): void {
  app.delete('/templates/:templateID', { schema: { params: templateIdParams } }, async (request, reply) => {
    await deleteTemplate(teamContext(context, request), request.params.templateID);
    return reply.code(204).send();
  });
}
