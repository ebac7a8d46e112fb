import type { Kysely } from 'kysely';
import type { Clock } from '../clock.ts';
import { findSandbox } from '../store/sandbox-repository.ts';
import type { Database } from '../store/schema.ts';

/** What the edge needs to know of a running sandbox. */
export interface SandboxRoute {
  readonly sandboxId: string;
  readonly hostId: string;
  /** False: the edge asks for the traffic token. */
  readonly publicTraffic: boolean;
}

/** A route is believed this long, so that a busy sandbox does not cost a query a request. */
const FRESH_MS = 1000;
const MAX_ROUTES = 10_000;

/** Finds running sandboxes for the edge. A sandbox that ended here is forgotten at once, one that ended elsewhere soon. */
export class SandboxRoutes {
  readonly #db: Kysely<Database>;
  readonly #clock: Clock;
  readonly #fresh = new Map<string, { readonly route: SandboxRoute; readonly untilMs: number }>();

  constructor(db: Kysely<Database>, clock: Clock) {
    this.#db = db;
    this.#clock = clock;
  }

  /** Undefined when no such sandbox runs. */
  async find(sandboxId: string): Promise<SandboxRoute | undefined> {
    const known = this.#fresh.get(sandboxId);
    const nowMs = this.#clock.now();
    if (known !== undefined && nowMs < known.untilMs) return known.route;
    this.#fresh.delete(sandboxId);
    const record = await findSandbox(this.#db, sandboxId);
    if (record?.state !== 'running') return undefined;
    const route = { sandboxId, hostId: record.hostId, publicTraffic: record.allowPublicTraffic };
    if (this.#fresh.size >= MAX_ROUTES) this.#fresh.clear();
    this.#fresh.set(sandboxId, { route, untilMs: nowMs + FRESH_MS });
    return route;
  }

  forget(sandboxId: string): void {
    this.#fresh.delete(sandboxId);
  }
}
