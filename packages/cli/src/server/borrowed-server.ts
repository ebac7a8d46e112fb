import { createLogger, type NestboxPaths } from '@nestbox/kit';
import { type Endpoints, findServer } from '../client/endpoints.ts';

/**
 * A server for one command: the running one, else one in this process on ports that the kernel chooses, which ends with
 * the command. Other sandboxes on the state folder are left as they are.
 */
export async function borrowServer(
  env: NodeJS.ProcessEnv,
  paths: NestboxPaths,
): Promise<{ endpoints: Endpoints } & AsyncDisposable> {
  const running = await findServer(env, paths);
  if (running !== undefined) return { endpoints: running, async [Symbol.asyncDispose]() {} };
  // Loaded only here: the daemons' code is most of the program.
  const { requireReadyHost } = await import('./readiness.ts');
  await requireReadyHost(paths);
  const { startAllInOne } = await import('./all-in-one.ts');
  const server = await startAllInOne({
    paths,
    logger: createLogger({ level: 'error' }),
    api: { host: '127.0.0.1', port: 0 },
    edge: { host: '127.0.0.1', port: 0 },
  });
  return {
    endpoints: { apiUrl: server.apiUrl, sandboxUrl: server.sandboxUrl, apiKey: server.apiKey },
    [Symbol.asyncDispose]: () => server.stop({ destroySandboxes: false }),
  };
}
