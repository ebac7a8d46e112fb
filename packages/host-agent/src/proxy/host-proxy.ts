import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { GUEST_NETWORK } from '@nestbox/contract';
import type { Logger } from '@nestbox/kit';
import { forwardRequest } from './forward-request.ts';
import { forwardUpgrade } from './forward-upgrade.ts';
import { hasSeveralHosts } from './headers.ts';
import {
  badRequest,
  type ProxyErrorBody,
  routeNotFound,
  sandboxRefused,
  sendProxyError,
  sendProxyErrorOnSocket,
  upstreamFailed,
} from './proxy-error.ts';
import { isGuestInternal, parseRequestTarget, type RequestTarget } from './request-target.ts';
import { UpstreamPool, type UpstreamPoolOptions } from './upstream-pool.ts';

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
  /** Traffic counts as activity until the returned function is called. */
  beginActivity(): () => void;
}

/** Can be mounted on any HTTP server. */
export interface HostProxy {
  handleRequest(request: IncomingMessage, response: ServerResponse): void;
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Ends every connection to a sandbox that is gone, and forgets it. */
  dropSandbox(sandboxId: string): void;
  close(): void;
}

export interface HostProxyOptions extends UpstreamPoolOptions {
  readonly sandboxes: SandboxTargets;
  readonly logger: Logger;
}

export function createHostProxy(options: HostProxyOptions): HostProxy {
  const rooms = new Map<string, ProxyRoom>();

  function roomOf(sandboxId: string, address: string): ProxyRoom {
    const known = rooms.get(sandboxId);
    if (known?.address === address) return known;
    known?.close();
    const room = new ProxyRoom(address, options);
    rooms.set(sandboxId, room);
    return room;
  }

  /** Answers the way, or what to tell the client instead. */
  function route(request: IncomingMessage): { upstream: Upstream; room: ProxyRoom } | { refusal: ProxyErrorBody } {
    if (hasSeveralHosts(request.rawHeaders))
      return { refusal: badRequest('The request has more than one Host header.') };
    const target = parseRequestTarget(request.url ?? '');
    if (target === undefined) return { refusal: badRequest('The path must be /proxy/<sandboxId>/<port>/…') };
    if (isGuestInternal(target)) return { refusal: routeNotFound(target) };
    try {
      const sandbox = options.sandboxes.target(target.sandboxId);
      const room = roomOf(target.sandboxId, sandbox.address);
      const { address, pool, guestNames } = room;
      return { upstream: { target, address, pool, guestNames, beginActivity: () => sandbox.beginActivity() }, room };
    } catch (error) {
      return { refusal: sandboxRefused(error, target) };
    }
  }

  return {
    handleRequest(request, response) {
      const way = route(request);
      if ('refusal' in way) {
        sendProxyError(response, way.refusal);
        return;
      }
      try {
        forwardRequest(request, response, way.upstream);
      } catch (error) {
        options.logger.error({ err: error }, 'a request could not be forwarded');
        sendProxyError(response, upstreamFailed(error, way.upstream.target));
      }
    },

    handleUpgrade(request, socket, head) {
      socket.on('error', (error) => options.logger.debug({ err: error }, 'a client ended an upgraded connection'));
      const way = route(request);
      if ('refusal' in way) {
        sendProxyErrorOnSocket(socket, way.refusal);
        return;
      }
      try {
        way.room.track(forwardUpgrade(request, socket, head, way.upstream));
      } catch (error) {
        options.logger.error({ err: error }, 'an upgrade could not be forwarded');
        sendProxyErrorOnSocket(socket, upstreamFailed(error, way.upstream.target));
      }
    },

    dropSandbox(sandboxId) {
      rooms.get(sandboxId)?.close();
      rooms.delete(sandboxId);
    },

    close() {
      for (const room of rooms.values()) room.close();
      rooms.clear();
    },
  };
}

/** What the proxy holds for one sandbox. */
class ProxyRoom {
  readonly address: string;
  readonly pool: UpstreamPool;
  readonly guestNames: ReadonlySet<string>;
  readonly #upgraded = new Set<Duplex>();

  constructor(address: string, options: UpstreamPoolOptions) {
    this.address = address;
    this.pool = new UpstreamPool(options);
    this.guestNames = new Set([address, GUEST_NETWORK.address, 'localhost', '127.0.0.1', '[::1]', '0.0.0.0', '[::]']);
  }

  /** Upgraded connections leave the pool; they end with the sandbox all the same. */
  track(socket: Duplex): void {
    this.#upgraded.add(socket);
    socket.once('close', () => this.#upgraded.delete(socket));
  }

  close(): void {
    this.pool.destroy();
    for (const socket of this.#upgraded) socket.destroy();
  }
}
