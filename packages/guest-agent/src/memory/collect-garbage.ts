import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

let collect: (() => void) | undefined;

/**
 * Collects what the agent no longer needs. Before the snapshot of a template: what is collected then, none of the sandboxes that are restored from it
 * has to collect in its first requests, and the snapshot does not hold it.
 */
export function collectGarbage(): void {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
  }
  collect();
}
