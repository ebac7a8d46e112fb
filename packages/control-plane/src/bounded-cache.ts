/**
 * Keeps the values that were used of late. In two generations: what is looked up moves into the young one, and when that is
 * full it becomes the old one and the old one goes, so that using a value costs no more than looking it up.
 */
export class BoundedCache<V> {
  readonly #generationWeight: number;
  readonly #weigh: (value: V) => number;
  #young = new Map<string, V>();
  #youngWeight = 0;
  #old = new Map<string, V>();

  /** Its values never weigh more than `maxWeight` together; by default each weighs 1. */
  constructor(maxWeight: number, weigh: (value: V) => number = () => 1) {
    this.#generationWeight = maxWeight / 2;
    this.#weigh = weigh;
  }

  get(key: string): V | undefined {
    const young = this.#young.get(key);
    if (young !== undefined) return young;
    const old = this.#old.get(key);
    if (old !== undefined) this.set(key, old);
    return old;
  }

  /** What alone would fill half of the cache is not kept. */
  set(key: string, value: V): void {
    const weight = this.#weigh(value);
    const replaced = this.#young.get(key);
    if (replaced !== undefined) this.#youngWeight -= this.#weigh(replaced);
    this.#young.delete(key);
    this.#old.delete(key);
    if (weight > this.#generationWeight) return;
    if (this.#youngWeight + weight > this.#generationWeight) {
      this.#old = this.#young;
      this.#young = new Map();
      this.#youngWeight = 0;
    }
    this.#young.set(key, value);
    this.#youngWeight += weight;
  }

  /** Of what is kept, together. */
  get weight(): number {
    return [...this.#young.values(), ...this.#old.values()].reduce((sum, value) => sum + this.#weigh(value), 0);
  }
}
