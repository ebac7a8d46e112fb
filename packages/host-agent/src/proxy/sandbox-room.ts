import type { Socket } from 'node:net';
import type { Duplex, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { GUEST_NETWORK } from '@nestbox/contract';
import { InFlight, Stillness } from './in-flight.ts';
import { UpstreamPool, type UpstreamPoolOptions } from './upstream-pool.ts';

/** Between two looks whether anything still moves. */
const LOOK_MS = 50;

/** What is under way, as its passage tells of it. */
export interface Entry {
  /** To be called with the connection by which the application answers. */
  answeredBy(application: Socket): void;
  /** To be called once. */
  end(): void;
}

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
  readonly #inFlight = new Set<InFlight>();
  #isClosed = false;

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

  /** Counts a request or an upgraded connection, whose answer goes to `client`. */
  enter(client: Writable): Entry {
    const entry = new InFlight(client);
    this.#inFlight.add(entry);
    return {
      answeredBy: (application) => entry.answeredBy(application),
      end: () => {
        this.#inFlight.delete(entry);
        if (this.#inFlight.size === 0) this.#wake();
      },
    };
  }

  /** Upgraded connections leave the pool; they end with the sandbox all the same. */
  track(socket: Duplex): void {
    this.#upgraded.add(socket);
    socket.once('close', () => this.#upgraded.delete(socket));
  }

  /**
   * Resolves when nothing is in flight, when nothing is but streams in which nothing moves, when the room is closed, or when `timeoutMs`
   * are over. Then upgraded connections are closed, since they would never end by themselves; requests have until `close`.
   */
  async drained(timeoutMs: number): Promise<void> {
    const endsAtMs = performance.now() + timeoutMs;
    const stillness = new Stillness();
    const { promise: settled, resolve } = Promise.withResolvers<void>();
    this.#waiting.add(resolve);
    try {
      while (this.#inFlight.size > 0 && !this.#isClosed) {
        const leftMs = endsAtMs - performance.now();
        if (leftMs <= 0 || stillness.covers(this.#inFlight)) {
          this.#closeUpgraded();
          return;
        }
        await Promise.race([settled, sleep(Math.min(LOOK_MS, leftMs), undefined, { ref: false })]);
      }
    } finally {
      this.#waiting.delete(resolve);
    }
  }

  close(): void {
    this.#isClosed = true;
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
