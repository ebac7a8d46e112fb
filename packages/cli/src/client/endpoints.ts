import { NestboxError } from '@nestbox/contract';
import type { NestboxPaths } from '@nestbox/kit';
import { apiKeyPath, readSecret } from '../server/secrets.ts';
import { findRunningServer } from '../server/server-file.ts';

/** Where a Nestbox server is and how to be let in. */
export interface Endpoints {
  /** Control API, without a slash at the end. */
  readonly apiUrl: string;
  /** The edge; undefined: each sandbox is reached at `<port>-<sandboxId>.<its domain>`. */
  readonly sandboxUrl: string | undefined;
  readonly apiKey: string;
  /** How clients reach the server over TLS. Undefined: it does not speak it. */
  readonly tls?: TlsEndpoint | undefined;
}

export interface TlsEndpoint {
  /** With the port unless it is 443: what the e2b clients take for E2B_DOMAIN. */
  readonly domain: string;
  /** The local authority's certificate, and the same together with the well-known ones. Undefined: the operator's certificate. */
  readonly authority?: { readonly caPath: string; readonly bundlePath: string } | undefined;
}

/**
 * Finds the server to talk to: the one that the environment names (the same variables that the e2b clients read), else
 * the one that runs on this state folder, else what E2B_DOMAIN names. Undefined when none is there.
 *
 * Throws NestboxError `unauthorized` when a server is known but no key to it.
 */
export async function findServer(
  env: NodeJS.ProcessEnv,
  paths: NestboxPaths,
): Promise<(Endpoints & { pid?: number }) | undefined> {
  if (env.E2B_API_URL) {
    if (!env.E2B_API_KEY)
      throw new NestboxError('unauthorized', 'E2B_API_URL is set but E2B_API_KEY is not; set both or neither.');
    return {
      apiUrl: withoutSlash(env.E2B_API_URL),
      sandboxUrl: env.E2B_SANDBOX_URL ? withoutSlash(env.E2B_SANDBOX_URL) : undefined,
      apiKey: env.E2B_API_KEY,
    };
  }
  const server = findRunningServer(paths);
  if (server === undefined) return findByDomain(env);
  const apiKey = env.E2B_API_KEY || (await readKey(paths));
  const { apiUrl, sandboxUrl, pid, tls } = server;
  return { apiUrl, sandboxUrl, apiKey, pid, ...(tls === undefined ? {} : { tls }) };
}

/** A server of another machine, as the clients find it: everything by host names below one domain. */
function findByDomain({ E2B_DOMAIN: domain, E2B_API_KEY: apiKey }: NodeJS.ProcessEnv): Endpoints | undefined {
  if (!domain) return undefined;
  if (!apiKey) throw new NestboxError('unauthorized', 'E2B_DOMAIN is set but E2B_API_KEY is not; set both or neither.');
  return { apiUrl: `https://api.${domain}`, sandboxUrl: undefined, apiKey, tls: { domain } };
}

/** As `findServer`, and throws NestboxError `server_not_running` when there is none. */
export async function requireServer(env: NodeJS.ProcessEnv, paths: NestboxPaths) {
  const server = await findServer(env, paths);
  if (server !== undefined) return server;
  throw new NestboxError(
    'server_not_running',
    `No Nestbox server runs on ${paths.stateDir}. Start one with: nestbox up (or set E2B_API_URL, E2B_SANDBOX_URL and E2B_API_KEY to use another).`,
  );
}

async function readKey(paths: NestboxPaths): Promise<string> {
  const path = apiKeyPath(paths);
  let apiKey: string | undefined;
  try {
    apiKey = await readSecret(path);
  } catch (cause) {
    throw new NestboxError(
      'unauthorized',
      `${path} cannot be read; ask for the key and set E2B_API_KEY, or use root.`,
      { cause },
    );
  }
  if (apiKey === undefined)
    throw new NestboxError('unauthorized', `${path} is missing; set E2B_API_KEY, or start the server again.`);
  return apiKey;
}

function withoutSlash(url: string): string {
  return url.replace(/\/+$/, '');
}
