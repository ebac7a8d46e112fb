import {
  sandboxesMetricsQuery,
  sandboxesWithMetricsBody,
  sandboxIdParams,
  sandboxMetricBody,
  sandboxMetricsQuery,
} from '@nestbox/contract/http';
import { z } from 'zod';
import { getMetricsOfSandboxes, getSandboxMetrics } from '../../service/sandbox-metrics.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { teamContext } from '../caller.ts';
import { requestSignal } from '../request-signal.ts';

/** `GET /sandboxes/{sandboxID}/metrics` and `GET /sandboxes/metrics`. */
export function sandboxMetricsRoute(app: ApiServer, context: ServiceContext): void {
  app.get(
    '/sandboxes/:sandboxID/metrics',
    {
      schema: {
        params: sandboxIdParams,
        querystring: sandboxMetricsQuery,
        response: { 200: z.array(sandboxMetricBody) },
      },
    },
    (request, reply) =>
      getSandboxMetrics(teamContext(context, request), request.params.sandboxID, request.query, requestSignal(reply)),
  );
  app.get(
    '/sandboxes/metrics',
    { schema: { querystring: sandboxesMetricsQuery, response: { 200: sandboxesWithMetricsBody } } },
    async (request, reply) => ({
      sandboxes: await getMetricsOfSandboxes(
        teamContext(context, request),
        request.query.sandbox_ids,
        requestSignal(reply),
      ),
    }),
  );
}
