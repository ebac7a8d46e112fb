import type { Writable } from 'node:stream';
import type { SandboxAddress } from '@nestbox/contract';
import { type ExchangeHandler, hasSeveralHosts, type Logger, type ProxyOrder } from '@nestbox/kit';
import { forwardRequest, forwardUpgrade } from './forward-request.ts';
import {
  badRequest,
  beingPaused,
  type ProxyErrorBody,
  routeNotFound,
  sandboxRefused,
  sendProxyError,
  sendProxyErrorOnSocket,
  upstreamFailed,
} from './proxy-error.ts';
import { isGuestInternal, parseRequestTarget, type RequestTarget } from './request-target.ts';
import { type Entry, SandboxRoom } from './sandbox-room.ts';
import type { UpstreamPool, UpstreamPoolOptions } from './upstream-pool.ts';

/** Where a sandbox's traffic goes. The manager answers it. */
export interface SandboxTargets {
  /** Throws NestboxError when the sandbox cannot take traffic now. */
  target(sandboxId: string): { readonly address: string; beginActivity(): () => void };
}

/** One request's way to an application. */
export interface Upstream {
  readonly target: RequestTarget;
  readonly address: string;
  readonly pool: UpstreamPool;
  readonly guestNames: ReadonlySet<string>;
  readonly order: ProxyOrder;
  /** Traffic counts as activity, and a pause may wait for it, until its end. `client` is where the answer goes. */
  enter(client: Writable): Entry;
}

/** Can be mounted on any HTTP server, and takes what an edge in the same process hands over. */
export interface HostProxy extends ExchangeHandler {
  /**
   * Before a pause: refuses new requests to the sandbox from now on, and resolves when none is in flight any more, or only streams of
   * some age in which nothing moves (in-flight.ts), after `timeoutMs` (default 2,000) at the latest. Upgraded connections count too, and
   * are closed then. The refusal lasts until `admit` or `dropSandbox`.
   */
  drain(sandboxId: string, timeoutMs?: number): Promise<void>;
  /** Takes requests again after a `drain` whose pause came to nothing. */
  admit(sandboxId: string): void;
  /** Ends every connection to a sandbox that is gone or paused, and forgets it, a drain included. */
  dropSandbox(sandboxId: string): void;
  close(): void;
}

export interface HostProxyOptions extends UpstreamPoolOptions {
  readonly sandboxes: SandboxTargets;
  readonly logger: Logger;
}

/** Source: host-system specification, "Proxies". */
const DRAIN_TIMEOUT_MS = 2000;

export function createHostProxy(options: HostProxyOptions): HostProxy {
  const rooms = new Map<string, SandboxRoom>();
  /** Sandboxes about to be paused. */
  const draining = new Set<string>();

  function roomOf(sandboxId: string, address: string): SandboxRoom {
    const known = rooms.get(sandboxId);
    if (known?.address === address) return known;
    known?.close();
    const room = new SandboxRoom(address, options);
    rooms.set(sandboxId, room);
    return room;
  }

  /** Answers the way, or what to tell the client instead. */
  function route(order: ProxyOrder): { upstream: Upstream; room: SandboxRoom } | { refusal: ProxyErrorBody } {
    if (hasSeveralHosts(order.headers)) return { refusal: badRequest('The request has more than one Host header.') };
    const target = parseRequestTarget(order.target);
    if (target === undefined) return { refusal: badRequest('The path must be /proxy/<sandboxId>/<port>/…') };
    if (isGuestInternal(target)) return { refusal: routeNotFound(target) };
    if (draining.has(target.sandboxId)) return { refusal: beingPaused(target) };
    try {
      const sandbox = options.sandboxes.target(target.sandboxId);
      const room = roomOf(target.sandboxId, sandbox.address);
      const { address, guestNames } = room;
      const pool = order.secure === true ? room.securePool : room.pool;
      const enter = (client: Writable): Entry => {
        const endActivity = sandbox.beginActivity();
        const entry = room.enter(client);
        return {
          ...entry,
          end: () => {
            endActivity();
            entry.end();
          },
        };
      };
      return { upstream: { target, address, pool, guestNames, order, enter }, room };
    } catch (error) {
      return { refusal: sandboxRefused(error, target) };
    }
  }

  return {
    handle(exchange, order) {
      const way = route(order);
      if ('refusal' in way) {
        sendProxyError(exchange, way.refusal);
        return;
      }
      try {
        forwardRequest(exchange, way.upstream);
      } catch (error) {
        const { target } = way.upstream;
        options.logger.error({ err: error, ...addressOf(target) }, 'a request could not be forwarded');
        sendProxyError(exchange, upstreamFailed(error, target));
      }
    },

    handleUpgrade(upgrade, order) {
      const { socket } = upgrade;
      socket.on('error', (error) => options.logger.debug({ err: error }, 'a client ended an upgraded connection'));
      const way = route(order);
      if ('refusal' in way) {
        sendProxyErrorOnSocket(socket, way.refusal);
        return;
      }
      try {
        forwardUpgrade(upgrade, way.upstream);
        way.room.track(socket);
      } catch (error) {
        const { target } = way.upstream;
        options.logger.error({ err: error, ...addressOf(target) }, 'an upgrade could not be forwarded');
        sendProxyErrorOnSocket(socket, upstreamFailed(error, target));
      }
    },

    async drain(sandboxId, timeoutMs = DRAIN_TIMEOUT_MS) {
      draining.add(sandboxId);
      await rooms.get(sandboxId)?.drained(timeoutMs);
    },

    admit(sandboxId) {
      draining.delete(sandboxId);
    },

    dropSandbox(sandboxId) {
      draining.delete(sandboxId);
      rooms.get(sandboxId)?.close();
      rooms.delete(sandboxId);
    },

    close() {
      for (const room of rooms.values()) room.close();
      rooms.clear();
    },
  };
}

/** Without the path, which may hold a signature. */
function addressOf({ sandboxId, port }: RequestTarget): SandboxAddress {
  return { sandboxId, port };
}
