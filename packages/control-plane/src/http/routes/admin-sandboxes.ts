import { killedSandboxesBody, runningCountsBody, teamIdParams } from '@nestbox/contract/http';
import { killTeamSandboxes } from '../../service/kill-team-sandboxes.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import { forTeam } from '../../service/team-context.ts';
import { countRunningByTeam } from '../../store/sandbox-list-repository.ts';
import type { ApiServer } from '../api-server.ts';
import { forAdmin } from '../caller.ts';

export function adminSandboxesRoute(app: ApiServer, context: ServiceContext): void {
  app.post(
    '/admin/teams/:teamID/sandboxes/kill',
    {
      ...forAdmin,
      schema: { params: teamIdParams, response: { 200: killedSandboxesBody } },
    },
    ({ params }) => killTeamSandboxes(forTeam(context, params.teamID)),
  );
  app.get(
    '/admin/sandboxes/running-counts',
    { ...forAdmin, schema: { response: { 200: runningCountsBody } } },
    async () => Object.fromEntries(await countRunningByTeam(context.db)),
  );
}
