import { timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import {
  GUEST_AGENT_PORT,
  isInternalGuestPath,
  NestboxError,
  parsePort,
  parseSandboxHost,
  parseSandboxId,
  SANDBOX_ID_HEADER,
  SANDBOX_PORT_HEADER,
  type SandboxAddress,
} from '@nestbox/contract';
import {
  type ExchangeHandler,
  type HttpExchange,
  hasSeveralHosts,
  hasUnknownCoding,
  type ProxyOrder,
} from '@nestbox/kit';
import type { AccessTokens } from '../service/access-tokens.ts';
import { hostOfMask } from '../service/host-mask.ts';
import type { SandboxRoute, SandboxRoutes } from '../service/sandbox-routes.ts';
import {
  badAddress,
  type EdgeError,
  hostUnreachable,
  internalRoute,
  notAwake,
  sandboxNotRunning,
  sandboxPaused,
  trafficTokenWrong,
  unknownCoding,
} from './edge-error.ts';
import { forwardedHeaders, TRAFFIC_TOKEN_HEADER } from './forwarded-headers.ts';
import type { HostProxies } from './host-proxies.ts';

/** What of a request says where it goes. */
export type EdgeRequest = Pick<HttpExchange, 'target' | 'rawHeaders' | 'headers' | 'client'>;

/** Where one request goes, and with what; or what to answer instead. */
export type Resolution =
  | { readonly proxy: ExchangeHandler; readonly order: ProxyOrder }
  | { readonly error: EdgeError };

export interface EdgeDirectory {
  readonly routes: Pick<SandboxRoutes, 'find'>;
  readonly tokens: Pick<AccessTokens, 'trafficToken'>;
  readonly proxies: Pick<HostProxies, 'find'>;
  /** Resolves when a sandbox that is paused, or on its way there or back, runs. Throws NestboxError. */
  readonly wake: (sandboxId: string, port: number) => Promise<void>;
}

/** Finds where a request goes, when its sandbox runs at last, or what to answer instead. */
export async function resolveTarget(directory: EdgeDirectory, request: EdgeRequest): Promise<Resolution> {
  if (hasSeveralHosts(request.rawHeaders)) return { error: badAddress('The request has more than one Host header.') };
  if (hasUnknownCoding(request.headers)) return { error: unknownCoding() };
  const address = readAddress(request.headers);
  if (address === undefined)
    return {
      error: badAddress(
        'This address leads to no sandbox: use <port>-<sandboxId>.<domain>, or send the headers E2b-Sandbox-Id and E2b-Sandbox-Port.',
      ),
    };
  const path = originForm(request.target);
  if (path === undefined) return { error: badAddress('The request target must be a path.') };
  const { sandboxId, port } = address;
  if (port === GUEST_AGENT_PORT && isInternalGuestPath(path)) return { error: internalRoute(address) };

  const route = await directory.routes.find(sandboxId);
  if (route === undefined) return { error: sandboxNotRunning(address) };
  // The guest agent's port has a token of its own, which such a sandbox always uses.
  if (!route.publicTraffic && port !== GUEST_AGENT_PORT) {
    const presented = request.headers[TRAFFIC_TOKEN_HEADER];
    if (typeof presented !== 'string' || presented === '') return { error: trafficTokenWrong(address, true) };
    if (!equalSecrets(presented, directory.tokens.trafficToken(sandboxId)))
      return { error: trafficTokenWrong(address, false) };
  }
  const proxy = directory.proxies.find(route.hostId);
  if (proxy === undefined) return { error: hostUnreachable(address) };
  const error = route.awake ? undefined : await awaitAwake(directory, route, address);
  if (error !== undefined) return { error };
  const { maskRequestHost, httpsPorts } = route;
  return {
    proxy,
    order: {
      target: `/proxy/${sandboxId}/${port}${path}`,
      headers: forwardedHeaders(request),
      maskedHost: maskRequestHost === undefined ? undefined : hostOfMask(maskRequestHost, port),
      secure: httpsPorts?.includes(port),
    },
  };
}

/** A sandbox resumes on the host that it was paused on, so its route stays. Undefined when it runs. */
async function awaitAwake(
  directory: EdgeDirectory,
  { wakes }: SandboxRoute,
  address: SandboxAddress,
): Promise<EdgeError | undefined> {
  if (!wakes) return sandboxPaused(address);
  try {
    await directory.wake(address.sandboxId, address.port);
    return undefined;
  } catch (error) {
    if (error instanceof NestboxError) return notAwake(address, error);
    throw error;
  }
}

/** The routing headers win; half of them is nothing to guess from. */
export function readAddress(headers: IncomingHttpHeaders): SandboxAddress | undefined {
  const rawId = headers[SANDBOX_ID_HEADER];
  const rawPort = headers[SANDBOX_PORT_HEADER];
  if (rawId === undefined && rawPort === undefined) return parseSandboxHost(headers.host ?? '');
  if (typeof rawId !== 'string' || typeof rawPort !== 'string') return undefined;
  const sandboxId = parseSandboxId(rawId);
  const port = parsePort(rawPort);
  return sandboxId !== undefined && port !== undefined ? { sandboxId, port } : undefined;
}

/** Path and query of a request target in origin form, or in the absolute form that clients send to proxies. */
function originForm(target: string): string | undefined {
  if (target.startsWith('/')) return target;
  const absolute = /^https?:\/\/[^/?#]*(.*)$/i.exec(target)?.[1];
  if (absolute === undefined) return undefined;
  return absolute.startsWith('/') ? absolute : `/${absolute}`;
}

function equalSecrets(presented: string, expected: string): boolean {
  const a = Buffer.from(presented);
  const b = Buffer.from(expected);
  return a.length === b.length && timingSafeEqual(a, b);
}
