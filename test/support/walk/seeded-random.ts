/** The same numbers for the same seed (mulberry32), so that a walk can be walked again. */
export class SeededRandom {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** From 0 up to, not including, 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from 0 up to, not including, `end`. */
  below(end: number): number {
    return Math.floor(this.next() * end);
  }

  isTrue(probability: number): boolean {
    return this.next() < probability;
  }

  /** Throws for an empty list. */
  pick<T>(list: readonly T[]): T {
    const picked = list[this.below(list.length)];
    if (picked === undefined) throw new Error('there is nothing to pick from');
    return picked;
  }

  /** A name, each as often as its weight says. */
  pickWeighted<Name extends string>(weights: Readonly<Record<Name, number>>): Name {
    const names = Object.keys(weights) as Name[];
    let left = this.next() * names.reduce((sum, name) => sum + weights[name], 0);
    for (const name of names) {
      left -= weights[name];
      if (left < 0) return name;
    }
    return this.pick(names);
  }
}

/** `NESTBOX_WALK_SEED` and `NESTBOX_WALK_STEPS`, or another seed each time and the given number of steps. */
export function readWalkSettings(steps: number): { readonly seed: number; readonly steps: number } {
  const { NESTBOX_WALK_SEED, NESTBOX_WALK_STEPS } = process.env;
  return {
    seed: readCount('NESTBOX_WALK_SEED', NESTBOX_WALK_SEED) ?? Math.floor(Math.random() * 2 ** 32),
    steps: readCount('NESTBOX_WALK_STEPS', NESTBOX_WALK_STEPS) ?? steps,
  };
}

function readCount(name: string, value: string | undefined): number | undefined {
  if (value === undefined || value === '') return undefined;
  if (!/^\d{1,10}$/.test(value)) throw new Error(`${name} must be a whole number, not "${value}"`);
  return Number(value);
}
