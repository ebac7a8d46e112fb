import type { ApiServer } from '../api-server.ts';

/** `GET /health`, the one route that asks for no key: 204 while the server answers requests. */
export function healthRoute(app: ApiServer): void {
  app.get('/health', (_request, reply) => reply.code(204).send());
}
