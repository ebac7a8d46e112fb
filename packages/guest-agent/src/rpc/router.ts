import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ConnectRouter } from '@connectrpc/connect';
import { compressionGzip, connectNodeAdapter } from '@connectrpc/connect-node';
import { requestUserInterceptor } from './request-user.ts';
import { dropEndlessTimeout } from './timeout.ts';

/** The largest message of a call; a guest may have as little as 128 MiB, and JSON costs several times its size. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

const SERVICES = ['/process.Process/', '/filesystem.Filesystem/'];

export interface RpcHandler {
  /** Whether `path` belongs to one of the services. */
  readonly serves: (path: string) => boolean;
  readonly handle: (request: IncomingMessage, response: ServerResponse) => void;
}

/** The Connect services over JSON and binary; gRPC and gRPC-Web come with the library. */
export function createRpcHandler(services: readonly ((router: ConnectRouter) => void)[]): RpcHandler {
  const adapter = connectNodeAdapter({
    routes: (router) => {
      for (const service of services) service(router);
    },
    interceptors: [requestUserInterceptor],
    acceptCompression: [compressionGzip],
    readMaxBytes: MAX_MESSAGE_BYTES,
  });
  return {
    serves: (path) => SERVICES.some((prefix) => path.startsWith(prefix)),
    handle: (request, response) => {
      dropEndlessTimeout(request.headers);
      // The library builds a URL of it and throws on one that is none; nothing of ours depends on the host name.
      request.headers.host = 'localhost';
      adapter(request, response);
    },
  };
}
