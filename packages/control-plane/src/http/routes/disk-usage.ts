import { diskUsageBody } from '@nestbox/contract/http';
import { getDiskUsage } from '../../service/disk-usage.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { requestSignal } from '../request-signal.ts';

/** `GET /disk`, Nestbox's own. */
export function diskUsageRoute(app: ApiServer, context: ServiceContext): void {
  app.get('/disk', { schema: { response: { 200: diskUsageBody } } }, async (_request, reply) => ({
    hosts: await getDiskUsage(context, requestSignal(reply)),
  }));
}
