import { RestError, type RestHandler, sendEmpty, sendJson } from '../rest.ts';
import type { Freezer } from './freezer.ts';

const MAX_WAIT_MS = 60_000;
const DEFAULT_MAX_CGROUPS = 512;

function requireFreezer(freezer: Freezer | undefined): Freezer {
  if (freezer === undefined) throw new RestError(503, 'there are no control groups here that could be frozen');
  return freezer;
}

/** An integer of the query from 0 to `max`; larger ones count as `max`. Throws RestError 400. */
function integer(query: URLSearchParams, name: string, fallback: number, max: number): number {
  const text = query.get(name);
  if (text === null) return fallback;
  if (!/^\d{1,19}$/.test(text)) throw new RestError(400, `${name} is no whole number`);
  return Math.min(Number(text), max);
}

/** POST /freeze: 200 and a FreezeResult when asked to wait, else 204. */
export function freezeRoute(freezer: Freezer | undefined): RestHandler {
  return async (_request, response, { searchParams }) => {
    const maxWaitMs = integer(searchParams, 'maxWaitMs', 0, MAX_WAIT_MS);
    const maxCgroups = integer(searchParams, 'maxCgroups', DEFAULT_MAX_CGROUPS, DEFAULT_MAX_CGROUPS);
    const mode = searchParams.get('mode') ?? 'legacy';
    if (mode !== 'legacy' && mode !== 'hierarchy') throw new RestError(400, 'mode is neither legacy nor hierarchy');
    const result = await requireFreezer(freezer).freeze({ mode, maxWaitMs, maxCgroups });
    if (result.failed > 0)
      throw new RestError(503, `${result.failed} of ${result.requested} groups could not be frozen`);
    if (maxWaitMs > 0) sendJson(response, 200, result);
    else sendEmpty(response, 204);
  };
}

/** POST /unfreeze. */
export function unfreezeRoute(freezer: Freezer | undefined): RestHandler {
  return async (_request, response) => {
    try {
      freezer?.thaw();
    } catch (cause) {
      throw new RestError(500, 'the processes could not be unfrozen', { cause });
    }
    sendEmpty(response, 204);
  };
}
