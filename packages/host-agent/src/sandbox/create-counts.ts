/** How the creates of this host agent's time came out, copies of forks included. One that was ended while it was starting is none of them. */
export class CreateCounts {
  #succeeded = 0;
  #failed = 0;

  get succeeded(): number {
    return this.#succeeded;
  }

  get failed(): number {
    return this.#failed;
  }

  noteSuccess(): void {
    this.#succeeded++;
  }

  noteFailure(): void {
    this.#failed++;
  }
}
