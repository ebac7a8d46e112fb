import type { FrontApi } from '../edge/front-server.ts';
import type { ApiServer } from './api-server.ts';

/**
 * The control API for a listener that is not its own. Fastify takes the objects of Node's HTTP/2 as well; its types allow
 * those of one protocol at a time.
 */
export function apiBehindFront(api: ApiServer): FrontApi {
  type Routing = Parameters<ApiServer['routing']>;
  return {
    serve: (request, response) => api.routing(request as Routing[0], response as Routing[1]),
  };
}
