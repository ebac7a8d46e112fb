import {
  apiKeyBody,
  createdApiKeyBody,
  newApiKeyBody,
  teamApiKeyIdParams,
  teamIdParams,
  updatedApiKeyBody,
} from '@nestbox/contract/http';
import { z } from 'zod';
import { createApiKey, listApiKeys, renameApiKey, revokeApiKey } from '../../service/manage-api-keys.ts';
import { requireTeam } from '../../service/manage-teams.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import { forTeam } from '../../service/team-context.ts';
import type { ApiServer } from '../api-server.ts';
import { noteMade } from '../audit-requests.ts';
import { forAdmin } from '../caller.ts';
import { viewApiKey } from '../key-views.ts';

/** The keys of whichever team, for administrators. */
export function adminApiKeysRoute(app: ApiServer, context: ServiceContext): void {
  const path = '/admin/teams/:teamID/api-keys';
  app.get(
    path,
    { ...forAdmin, schema: { params: teamIdParams, response: { 200: z.array(apiKeyBody) } } },
    async (request) => {
      const { id } = await requireTeam(context, request.params.teamID);
      return (await listApiKeys(forTeam(context, id))).map(viewApiKey);
    },
  );
  app.post(
    path,
    {
      ...forAdmin,
      schema: { params: teamIdParams, body: newApiKeyBody, response: { 201: createdApiKeyBody } },
    },
    async (request, reply) => {
      const { name, expiresAt } = request.body;
      const expiresAtMs = expiresAt == null ? undefined : Date.parse(expiresAt);
      const { key, record } = await createApiKey(forTeam(context, request.params.teamID), name, expiresAtMs);
      noteMade(request, [record.id]);
      return reply.code(201).send({ ...viewApiKey(record), key });
    },
  );
  app.patch(
    `${path}/:apiKeyID`,
    { ...forAdmin, schema: { params: teamApiKeyIdParams, body: updatedApiKeyBody } },
    async (request, reply) => {
      const { teamID, apiKeyID } = request.params;
      await renameApiKey(forTeam(context, teamID), apiKeyID, request.body.name);
      return reply.code(204).send();
    },
  );
  app.delete(`${path}/:apiKeyID`, { ...forAdmin, schema: { params: teamApiKeyIdParams } }, async (request, reply) => {
    await revokeApiKey(forTeam(context, request.params.teamID), request.params.apiKeyID);
    return reply.code(204).send();
  });
}
