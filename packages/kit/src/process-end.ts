import { constants } from 'node:os';

const SIGNALS = ['SIGTERM', 'SIGINT'] as const;

/**
 * Resolves with the first SIGTERM or SIGINT. A daemon ends in order then; the next signal ends the process at once, with
 * the exit code that shells give for it.
 */
export function firstStopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let first: NodeJS.Signals | undefined;
    for (const name of SIGNALS)
      process.on(name, () => {
        if (first !== undefined) process.exit(128 + constants.signals[name]);
        first = name;
        resolve(name);
      });
  });
}
