import { adminTeamBody, newTeamBody, teamIdParams, updatedTeamBody } from '@nestbox/contract/http';
import { z } from 'zod';
import { createTeam, deleteTeam, requireTeam, updateTeam } from '../../service/manage-teams.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import { listTeams } from '../../store/team-repository.ts';
import type { ApiServer } from '../api-server.ts';
import { noteMade } from '../audit-requests.ts';
import { forAdmin } from '../caller.ts';
import { readLimits, viewAdminTeam } from '../key-views.ts';

const NO_LIMITS = {
  maxRunning: undefined,
  maxVcpus: undefined,
  maxMemoryMib: undefined,
  maxCreatesPerMinute: undefined,
};

/** `/admin/teams`, Nestbox's own. */
export function adminTeamsRoute(app: ApiServer, context: ServiceContext): void {
  app.get('/admin/teams', { ...forAdmin, schema: { response: { 200: z.array(adminTeamBody) } } }, async () =>
    (await listTeams(context.db)).map(viewAdminTeam),
  );
  app.post(
    '/admin/teams',
    { ...forAdmin, schema: { body: newTeamBody, response: { 201: adminTeamBody } } },
    async (request, reply) => {
      const { body } = request;
      const team = await createTeam(context, body.name, { ...NO_LIMITS, ...readLimits(body.limits ?? {}) });
      noteMade(request, [team.id]);
      return reply.code(201).send(viewAdminTeam(team));
    },
  );
  app.get(
    '/admin/teams/:teamID',
    { ...forAdmin, schema: { params: teamIdParams, response: { 200: adminTeamBody } } },
    async ({ params }) => viewAdminTeam(await requireTeam(context, params.teamID)),
  );
  app.patch(
    '/admin/teams/:teamID',
    { ...forAdmin, schema: { params: teamIdParams, body: updatedTeamBody, response: { 200: adminTeamBody } } },
    async ({ params, body: { name, limits } }) =>
      viewAdminTeam(await updateTeam(context, params.teamID, { name, limits: limits && readLimits(limits) })),
  );
  app.delete('/admin/teams/:teamID', { ...forAdmin, schema: { params: teamIdParams } }, async ({ params }, reply) => {
    await deleteTeam(context, params.teamID);
    return reply.code(204).send();
  });
}
