import type { Duplex } from 'node:stream';
import { GUEST_NETWORK } from '@nestbox/contract';
import { UpstreamPool, type UpstreamPoolOptions } from './upstream-pool.ts';

/** What the proxy holds for one sandbox at one address: its connections, and how many of them are in use. */
export class SandboxRoom {
  readonly address: string;
  readonly pool: UpstreamPool;
  /** What an application inside may call itself. */
  readonly guestNames: ReadonlySet<string>;
  readonly #options: UpstreamPoolOptions;
  #securePool: UpstreamPool | undefined;
  readonly #upgraded = new Set<Duplex>();
  readonly #waiting = new Set<() => void>();
  #inFlight = 0;

  constructor(address: string, options: UpstreamPoolOptions) {
    this.address = address;
    this.#options = options;
    this.pool = new UpstreamPool(options);
    this.guestNames = new Set([address, GUEST_NETWORK.address, 'localhost', '127.0.0.1', '[::1]', '0.0.0.0', '[::]']);
  }

  /** For ports whose application speaks TLS. */
  get securePool(): UpstreamPool {
    this.#securePool ??= new UpstreamPool({ ...this.#options, secure: true });
    return this.#securePool;
  }

  /** Counts a request or an upgraded connection; call the returned function once when it has ended. */
  enter(): () => void {
    this.#inFlight += 1;
    return () => {
      this.#inFlight -= 1;
      if (this.#inFlight === 0) this.#wake();
    };
  }

  /** Upgraded connections leave the pool; they end with the sandbox all the same. */
  track(socket: Duplex): void {
    this.#upgraded.add(socket);
    socket.once('close', () => this.#upgraded.delete(socket));
  }

  /**
   * Resolves when nothing is in flight, the room is closed, or `timeoutMs` are over. Then upgraded connections are closed,
   * since they would never end by themselves; requests have until `close`.
   */
  async drained(timeoutMs: number): Promise<void> {
    if (this.#inFlight === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      this.#closeUpgraded();
      resolve();
    }, timeoutMs);
    this.#waiting.add(resolve);
    await promise;
    clearTimeout(timer);
    this.#waiting.delete(resolve);
  }

  close(): void {
    this.pool.destroy();
    this.#securePool?.destroy();
    this.#closeUpgraded();
    this.#wake();
  }

  #closeUpgraded(): void {
    for (const socket of this.#upgraded) socket.destroy();
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
  }
}
