import type { ApiServer } from '../api-server.ts';
import { docsPage } from '../docs-page.ts';
import type { OpenApi } from '../openapi.ts';

/** `GET /openapi.json` and the page that shows it; neither says anything of this server's sandboxes, so both are open. */
export function openApiRoutes(app: ApiServer, openApi: OpenApi): void {
  app.get('/openapi.json', (_request, reply) => reply.type('application/json; charset=utf-8').send(openApi.text()));
  app.get('/docs', (_request, reply) =>
    reply
      .type('text/html; charset=utf-8')
      .header('Content-Security-Policy', docsPage.contentSecurityPolicy)
      .header('X-Content-Type-Options', 'nosniff')
      .send(docsPage.html),
  );
}
