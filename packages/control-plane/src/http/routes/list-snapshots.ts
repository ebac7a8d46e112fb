import { snapshotInfoBody, snapshotListQuery } from '@nestbox/contract/http';
import { z } from 'zod';
import { listSnapshots } from '../../service/list-snapshots.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { teamContext } from '../caller.ts';
import { requestSignal } from '../request-signal.ts';

export function listSnapshotsRoute(app: ApiServer, context: ServiceContext): void {
  app.get(
    '/snapshots',
    { schema: { querystring: snapshotListQuery, response: { 200: z.array(snapshotInfoBody) } } },
    async (request, reply) => {
      const page = await listSnapshots(teamContext(context, request), request.query, requestSignal(reply));
      if (page.nextToken !== undefined) reply.header('X-Next-Token', page.nextToken);
      return [...page.snapshots];
    },
  );
}
