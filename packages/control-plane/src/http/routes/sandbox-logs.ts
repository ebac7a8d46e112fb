import {
  MAX_LOG_LINES,
  sandboxIdParams,
  sandboxLogsBody,
  sandboxLogsQuery,
  sandboxLogsV2Body,
  sandboxLogsV2Query,
} from '@nestbox/contract/http';
import { getSandboxLogs } from '../../service/sandbox-logs.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { teamContext } from '../caller.ts';
import { requestSignal } from '../request-signal.ts';

/** `GET /v2/sandboxes/{sandboxID}/logs`, and the older form without filters. */
export function sandboxLogsRoute(app: ApiServer, context: ServiceContext): void {
  app.get(
    '/v2/sandboxes/:sandboxID/logs',
    { schema: { params: sandboxIdParams, querystring: sandboxLogsV2Query, response: { 200: sandboxLogsV2Body } } },
    async (request, reply) => ({
      logs: await getSandboxLogs(
        teamContext(context, request),
        request.params.sandboxID,
        request.query,
        requestSignal(reply),
      ),
    }),
  );
  app.get(
    '/sandboxes/:sandboxID/logs',
    { schema: { params: sandboxIdParams, querystring: sandboxLogsQuery, response: { 200: sandboxLogsBody } } },
    async (request, reply) => {
      const { start, limit } = request.query;
      const query = { cursor: start, limit: Math.min(limit, MAX_LOG_LINES), direction: 'forward' } as const;
      const logEntries = await getSandboxLogs(
        teamContext(context, request),
        request.params.sandboxID,
        query,
        requestSignal(reply),
      );
      return {
        logs: logEntries.map(({ timestamp, message, level, fields }) => ({
          timestamp,
          line: JSON.stringify({ ...fields, timestamp, level, message }),
        })),
        logEntries,
      };
    },
  );
}
