import type { WarmOrder } from './warm-order.ts';

const FIRST_RETRY_MS = 2000;
const LAST_RETRY_MS = 60_000;

interface Standing {
  /** When one was made last; in the time of whoever calls. */
  lastMadeMs: number;
  /** Failures since then. */
  failures: number;
  notBeforeMs: number;
}

/**
 * Whose turn it is when VMs are made ahead. The order of which the smallest part waits comes first, so that a large one does not keep a
 * small one from its VMs; an order that fails is put off, twice as long each time, and keeps nobody else waiting. All times in
 * milliseconds of one clock.
 */
export class WarmTurns {
  readonly #standings: ReadonlyMap<WarmOrder, Standing>;

  constructor(orders: readonly WarmOrder[]) {
    const wanted = orders.filter(({ count }) => count > 0);
    this.#standings = new Map(
      wanted.map((order) => [order, { lastMadeMs: Number.NEGATIVE_INFINITY, failures: 0, notBeforeMs: 0 }]),
    );
  }

  get isEmpty(): boolean {
    return this.#standings.size === 0;
  }

  /** Orders that are not put off now. */
  open(nowMs: number): WarmOrder[] {
    return [...this.#standings].filter(([, { notBeforeMs }]) => notBeforeMs <= nowMs).map(([order]) => order);
  }

  /** How long until an order is not put off any more; undefined when none is. */
  putOffMs(nowMs: number): number | undefined {
    const times = [...this.#standings.values()].map(({ notBeforeMs }) => notBeforeMs).filter((ms) => ms > nowMs);
    return times.length === 0 ? undefined : Math.min(...times) - nowMs;
  }

  /** Of those that want one more: the one of which the smallest part waits; of equals the one that got none for longest. */
  fairest<T extends { readonly order: WarmOrder; readonly waiting: number }>(wanted: readonly T[]): T | undefined {
    const rank = ({ order, waiting }: T) => [waiting / order.count, this.#standing(order).lastMadeMs] as const;
    return wanted.toSorted((a, b) => {
      const [partA, madeA] = rank(a);
      const [partB, madeB] = rank(b);
      // Two that have got none yet: the subtraction of infinities is not a number.
      return partA - partB || (madeA === madeB ? 0 : madeA - madeB);
    })[0];
  }

  /** True when it had failed before. */
  succeeded(order: WarmOrder, nowMs: number): boolean {
    const standing = this.#standing(order);
    const hadFailed = standing.failures > 0;
    Object.assign(standing, { lastMadeMs: nowMs, failures: 0, notBeforeMs: 0 });
    return hadFailed;
  }

  /** Puts the order off. `isFirst`: it had not failed since the last success. */
  failed(order: WarmOrder, nowMs: number): { readonly isFirst: boolean; readonly retryMs: number } {
    const standing = this.#standing(order);
    const retryMs = Math.min(FIRST_RETRY_MS * 2 ** standing.failures, LAST_RETRY_MS);
    standing.failures += 1;
    standing.notBeforeMs = nowMs + retryMs;
    return { isFirst: standing.failures === 1, retryMs };
  }

  #standing(order: WarmOrder): Standing {
    const standing = this.#standings.get(order);
    if (standing === undefined) throw new RangeError(`${order.templateId} was not ordered`);
    return standing;
  }
}
