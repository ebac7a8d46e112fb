import { diskUsageBody } from '@nestbox/contract/http';
import { getDiskUsage, verifyDisks } from '../../service/disk-usage.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { forAdmin, widestContext } from '../caller.ts';
import { requestSignal } from '../request-signal.ts';

/** `GET /disk` and `POST /admin/disk/verify`, Nestbox's own. An administrator who names no team sees everything. */
export function diskUsageRoute(app: ApiServer, context: ServiceContext): void {
  app.get('/disk', { schema: { response: { 200: diskUsageBody } } }, async (request, reply) => ({
    hosts: await getDiskUsage(widestContext(context, request), requestSignal(reply)),
  }));
  app.post('/admin/disk/verify', { ...forAdmin }, async (_request, reply) => {
    await verifyDisks(context);
    return reply.code(204).send();
  });
}
