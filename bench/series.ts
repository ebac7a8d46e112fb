/** Figures of one thing, measured several times. */
export class Series {
  readonly #values: number[] = [];

  add(value: number): void {
    this.#values.push(value);
  }

  get median(): number {
    return quantile(this.#values, 0.5);
  }

  get smallest(): number {
    return Math.min(...this.#values);
  }

  get largest(): number {
    return Math.max(...this.#values);
  }

  get count(): number {
    return this.#values.length;
  }
}

/** Linear between the two nearest values. NaN for an empty list. */
export function quantile(values: readonly number[], fraction: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const position = (sorted.length - 1) * fraction;
  const below = sorted[Math.floor(position)] ?? Number.NaN;
  const above = sorted[Math.ceil(position)] ?? Number.NaN;
  return below + (above - below) * (position - Math.floor(position));
}

/** Milliseconds that the work takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const begunMs = performance.now();
  await work();
  return performance.now() - begunMs;
}

/** Measures two things in turn (ours, floor, ours, floor …), so that a change of the machine's mood meets both. */
export async function interleave(
  rounds: number,
  ours: () => Promise<number>,
  floor: () => Promise<number>,
): Promise<{ ours: Series; floor: Series }> {
  const series = { ours: new Series(), floor: new Series() };
  for (let round = 0; round < rounds; round++) {
    series.ours.add(await ours());
    series.floor.add(await floor());
  }
  return series;
}
