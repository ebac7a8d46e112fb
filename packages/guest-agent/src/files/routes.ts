import type { RestHandler } from '../rest.ts';
import { composeFiles } from './compose.ts';
import { downloadFile } from './download.ts';
import { QueryTypeError } from './file-request.ts';
import { uploadFiles } from './upload.ts';

/** The REST routes for files by path, then by method (envd-interface.md, sections 5.1 to 5.3). */
export const fileRoutes: Readonly<Record<string, Readonly<Record<string, RestHandler>>>> = {
  '/files': {
    GET: withTypedQuery(downloadFile),
    HEAD: withTypedQuery(downloadFile),
    POST: withTypedQuery(uploadFiles),
  },
  '/files/compose': { POST: composeFiles },
};

/** Query parameters of the wrong type are answered in plain text, unlike all other errors: envd's generated code does so. */
function withTypedQuery(handler: RestHandler): RestHandler {
  return async (request, response, url, context) => {
    try {
      await handler(request, response, url, context);
    } catch (error) {
      if (!(error instanceof QueryTypeError)) throw error;
      response.writeHead(400, { 'Content-Type': 'text/plain; charset=utf-8', 'X-Content-Type-Options': 'nosniff' });
      response.end(`${error.message}\n`);
    }
  };
}
