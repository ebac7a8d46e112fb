import type { Compilable, CompiledQuery, Kysely } from 'kysely';
import { BoundedCache } from '../bounded-cache.ts';
import type { Database } from './schema.ts';

/** Lists with filters come in many shapes. */
const MAX_BUILT = 200;

/** Stands in a statement for what is given to each run of it. */
class Given<Input> {
  readonly pick: (input: Input) => unknown;

  constructor(pick: (input: Input) => unknown) {
    this.pick = pick;
  }
}

/** Puts what `pick` takes from the input of each run where a statement has a value. */
export type Place<Input> = <T>(pick: (input: Input) => T) => T;

/** Statements that are built once and run with many inputs: to build one takes longer than most take to run. */
export class Statements<Input> {
  readonly #db: Kysely<Database>;
  readonly #built = new BoundedCache<CompiledQuery>(MAX_BUILT);

  constructor(db: Kysely<Database>) {
    this.#db = db;
  }

  /** `shape` must tell everything of the statement but the values that it `place`s: `build` is asked once for each. */
  async run<Row>(shape: string, input: Input, build: (place: Place<Input>) => Compilable<Row>): Promise<Row[]> {
    let built = this.#built.get(shape);
    if (built === undefined) {
      // It has the type of the value that it stands for: what builds a condition need not know which of the two it gets.
      built = build((pick) => new Given(pick) as unknown as ReturnType<typeof pick>).compile();
      this.#built.set(shape, built);
    }
    const parameters = built.parameters.map((value) => (value instanceof Given ? value.pick(input) : value));
    const { rows } = await this.#db.executeQuery({ ...built, parameters } as CompiledQuery<Row>);
    return rows;
  }
}
