/** Runs one step that others do not depend on: a guest with a flaw that its console names is better than none. */
export function attempt(what: string, step: () => void): void {
  try {
    step();
  } catch (error) {
    console.error(`nestbox: ${what} failed:`, error instanceof Error ? error.message : error);
  }
}
