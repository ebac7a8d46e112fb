import {
  maxTeamMetricBody,
  teamBody,
  teamIdParams,
  teamMetricBody,
  teamMetricsMaxQuery,
  teamMetricsQuery,
} from '@nestbox/contract/http';
import { z } from 'zod';
import { requireTeam } from '../../service/manage-teams.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import { getMaxTeamMetric, getTeamMetrics } from '../../service/team-metrics.ts';
import { listTeams } from '../../store/team-repository.ts';
import type { ApiServer } from '../api-server.ts';
import { callerOf, memberContext } from '../caller.ts';

/** `GET /teams`: the one of the key, or for an administrator all of them; and what a team did. */
export function teamsRoute(app: ApiServer, context: ServiceContext): void {
  app.get('/teams', { schema: { response: { 200: z.array(teamBody) } } }, async (request) => {
    const caller = callerOf(request);
    const teams =
      caller.teamId === undefined ? await listTeams(context.db) : [await requireTeam(context, caller.teamId)];
    const apiKey = caller.kind === 'key' ? caller.key : '';
    return teams.map(({ id, name, isDefault }) => ({ teamID: id, name, apiKey, isDefault }));
  });
  app.get(
    '/teams/:teamID/metrics',
    { schema: { params: teamIdParams, querystring: teamMetricsQuery, response: { 200: z.array(teamMetricBody) } } },
    (request) => getTeamMetrics(memberContext(context, request, request.params.teamID), request.query),
  );
  app.get(
    '/teams/:teamID/metrics/max',
    { schema: { params: teamIdParams, querystring: teamMetricsMaxQuery, response: { 200: maxTeamMetricBody } } },
    (request) =>
      getMaxTeamMetric(memberContext(context, request, request.params.teamID), request.query.metric, request.query),
  );
}
