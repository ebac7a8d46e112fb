import { sandboxIdParams, sandboxSnapshotBody, snapshotInfoBody } from '@nestbox/contract/http';
import type { ServiceContext } from '../../service/service-context.ts';
import { snapshotSandbox } from '../../service/snapshot-sandbox.ts';
import { checkSnapshot } from '../../service/supported-features.ts';
import { Timings } from '../../service/timings.ts';
import type { ApiServer } from '../api-server.ts';
import { noteMade } from '../audit-requests.ts';
import { teamContext } from '../caller.ts';
import { sendTimings } from '../server-timing.ts';

export function snapshotSandboxRoute(app: ApiServer, context: ServiceContext): void {
  app.post(
    '/sandboxes/:sandboxID/snapshots',
    { schema: { params: sandboxIdParams, body: sandboxSnapshotBody, response: { 201: snapshotInfoBody } } },
    async (request, reply) => {
      checkSnapshot(request.body);
      const timings = new Timings();
      const snapshot = await snapshotSandbox(
        teamContext(context, request),
        request.params.sandboxID,
        request.body.name,
        timings,
      );
      noteMade(request, [snapshot.snapshotID]);
      sendTimings(reply, timings);
      return reply.code(201).send(snapshot);
    },
  );
}
