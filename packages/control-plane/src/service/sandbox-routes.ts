import type { Kysely } from 'kysely';
import type { Clock } from '../clock.ts';
import { findSandbox } from '../store/sandbox-repository.ts';
import { shownState } from '../store/sandbox-state.ts';
import type { Database } from '../store/schema.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import { wakesByItself } from './wakes-by-itself.ts';

/** What the edge needs to know of a sandbox. */
export interface SandboxRoute {
  readonly sandboxId: string;
  readonly hostId: string;
  /** False: the edge asks for the traffic token. */
  readonly publicTraffic: boolean;
  /** What applications are told in the Host header, `${PORT}` for their port. Undefined: the client's own. */
  readonly maskRequestHost: string | undefined;
  /** Ports whose applications speak TLS. */
  readonly httpsPorts: readonly number[] | undefined;
  /** False: it is paused, or on its way there or back. */
  readonly awake: boolean;
  /** When it is not awake: it will be, for a request that waits. */
  readonly wakes: boolean;
}

/** A route is believed this long, so that a busy sandbox does not cost a query a request. */
const FRESH_MS = 1000;
const MAX_ROUTES = 10_000;

/** Finds sandboxes for the edge; only routes to running ones are believed for a while. A sandbox that ended here is forgotten at once, one that ended elsewhere soon. */
export class SandboxRoutes {
  readonly #db: Kysely<Database>;
  readonly #clock: Clock;
  /** Grows with each `forget`: what was read before one is not kept behind it. */
  #epoch = 0;
  readonly #fresh = new Map<string, { readonly route: SandboxRoute; readonly untilMs: number }>();

  constructor(db: Kysely<Database>, clock: Clock) {
    this.#db = db;
    this.#clock = clock;
  }

  /** Undefined when there is no such sandbox. */
  async find(sandboxId: string): Promise<SandboxRoute | undefined> {
    const known = this.#fresh.get(sandboxId);
    const nowMs = this.#clock.now();
    if (known !== undefined && nowMs < known.untilMs) return known.route;
    this.#fresh.delete(sandboxId);
    const epoch = this.#epoch;
    const record = await findSandbox(this.#db, EVERY_TEAM, sandboxId);
    if (record === undefined || shownState(record.state) === undefined) return undefined;
    const awake = record.state === 'running';
    const route = {
      sandboxId,
      hostId: record.hostId,
      publicTraffic: record.allowPublicTraffic,
      maskRequestHost: record.network?.maskRequestHost,
      httpsPorts: record.network?.httpsPorts,
      awake,
      wakes: record.state === 'resuming' || wakesByItself(record),
    };
    if (!awake || epoch !== this.#epoch) return route;
    if (this.#fresh.size >= MAX_ROUTES) this.#fresh.clear();
    this.#fresh.set(sandboxId, { route, untilMs: nowMs + FRESH_MS });
    return route;
  }

  forget(sandboxId: string): void {
    this.#epoch += 1;
    this.#fresh.delete(sandboxId);
  }
}
