import { nodeBody, nodeIdParams, nodeStatusChange, nodesQuery } from '@nestbox/contract/http';
import { z } from 'zod';
import { getNode, listNodes, setNodeStatus } from '../../service/nodes.ts';
import type { ServiceContext } from '../../service/service-context.ts';
import type { ApiServer } from '../api-server.ts';
import { forAdmin } from '../caller.ts';
import { requestSignal } from '../request-signal.ts';

/** `/nodes`: the hosts, in the words of the wire. */
export function nodesRoute(app: ApiServer, context: ServiceContext): void {
  app.get(
    '/nodes',
    { ...forAdmin, schema: { querystring: nodesQuery, response: { 200: z.array(nodeBody) } } },
    ({ query }, reply) => listNodes(context, query.clusterID, requestSignal(reply)),
  );
  app.get(
    '/nodes/:nodeID',
    { ...forAdmin, schema: { params: nodeIdParams, querystring: nodesQuery, response: { 200: nodeBody } } },
    ({ params, query }, reply) => getNode(context, params.nodeID, query.clusterID, requestSignal(reply)),
  );
  app.post(
    '/nodes/:nodeID',
    { ...forAdmin, schema: { params: nodeIdParams, body: nodeStatusChange } },
    async ({ params, body }, reply) => {
      await setNodeStatus(context, params.nodeID, body);
      return reply.code(204).send();
    },
  );
}
