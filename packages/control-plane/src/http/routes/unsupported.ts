import { NestboxError } from '@nestbox/contract';
import type { ApiServer } from '../api-server.ts';
import { UNSUPPORTED_OPERATIONS } from '../unsupported-operations.ts';

/** Answers each known operation that is not built with 501, before its body is read. */
export function unsupportedRoutes(app: ApiServer): void {
  for (const { method, path, feature } of UNSUPPORTED_OPERATIONS) {
    const refuse = async (): Promise<never> => {
      throw new NestboxError('not_supported', `${feature} are not supported by this version of Nestbox.`);
    };
    app.route({ method, url: path, onRequest: refuse, handler: refuse });
  }
}
