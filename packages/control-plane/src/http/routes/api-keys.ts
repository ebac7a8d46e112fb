import {
  apiKeyBody,
  apiKeyIdParams,
  createdApiKeyBody,
  newApiKeyBody,
  updatedApiKeyBody,
} from '@nestbox/contract/http';
import { z } from 'zod';
import { createApiKey, listApiKeys, renameApiKey, revokeApiKey } from '../../service/manage-api-keys.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { noteMade } from '../audit-requests.ts';
import { forAdmin, teamContext } from '../caller.ts';
import { viewApiKey } from '../key-views.ts';

/** The keys of a team. A key may look at them; changing them takes the admin token and `X-Team-ID`. */
export function apiKeysRoute(app: ApiServer, context: ServiceContext): void {
  app.get('/api-keys', { schema: { response: { 200: z.array(apiKeyBody) } } }, async (request) =>
    (await listApiKeys(teamContext(context, request))).map(viewApiKey),
  );
  app.post(
    '/api-keys',
    { ...forAdmin, schema: { body: newApiKeyBody, response: { 201: createdApiKeyBody } } },
    async (request, reply) => {
      const { name, expiresAt } = request.body;
      const expiresAtMs = expiresAt == null ? undefined : Date.parse(expiresAt);
      const { key, record } = await createApiKey(teamContext(context, request), name, expiresAtMs);
      noteMade(request, [record.id]);
      return reply.code(201).send({ ...viewApiKey(record), key });
    },
  );
  app.patch(
    '/api-keys/:apiKeyID',
    { ...forAdmin, schema: { params: apiKeyIdParams, body: updatedApiKeyBody, response: { 200: z.void() } } },
    async (request, reply) => {
      await renameApiKey(teamContext(context, request), request.params.apiKeyID, request.body.name);
      return reply.code(200).send();
    },
  );
  app.delete('/api-keys/:apiKeyID', { ...forAdmin, schema: { params: apiKeyIdParams } }, async (request, reply) => {
    await revokeApiKey(teamContext(context, request), request.params.apiKeyID);
    return reply.code(204).send();
  });
}
