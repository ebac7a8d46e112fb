import { styleText } from 'node:util';
import { NESTBOX_VERSION } from '@nestbox/contract';
import type { Endpoints } from '../client/endpoints.ts';
import { exportLines, quote } from './export-lines.ts';

export interface UpFacts {
  readonly stateDir: string;
  readonly endpoints: Endpoints;
  readonly elapsedMs: number;
  /** Where the API key is kept, for root alone. */
  readonly keyPath: string;
  /** Somebody who sits before it has not seen the key yet. What goes elsewhere is kept there, as a log is. */
  readonly showsKey: boolean;
}

/** What `nestbox up` says when it is ready: lines for a shell that lead every e2b client to it. */
export function upBanner({ stateDir, endpoints, elapsedMs, keyPath, showsKey }: UpFacts): string {
  const title = styleText('bold', `Nestbox ${NESTBOX_VERSION}`);
  const lines = showsKey ? exportLines(endpoints) : exportLines(endpoints, `"$(cat ${quote(keyPath)})"`);
  return `${title} is ready after ${(elapsedMs / 1000).toFixed(2)} s (state in ${stateDir}). Ctrl-C ends it.

Use it from any e2b client:

${lines}
${showsKey ? `\nThe key is shown this once. It is kept in ${keyPath}, for root alone.\n` : ''}`;
}
