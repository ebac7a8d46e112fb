import type { SandboxListQuery } from '@nestbox/contract/http';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import { countRunning, listRunning, type RunningSandboxFilter } from '../store/sandbox-repository.ts';
import { parseMetadataFilter } from './metadata-filter.ts';
import { formatPageToken, parsePageToken } from './page-token.ts';
import type { ServiceContext } from './service-context.ts';

export interface SandboxList {
  readonly sandboxes: readonly SandboxRecord[];
  /** Undefined on the last page. */
  readonly nextToken: string | undefined;
  /** How many running sandboxes the filter matches in all. */
  readonly totalRunning: number;
}

/** One page of the running sandboxes, newest first unless asked otherwise. Throws `invalid_request`. */
export async function listSandboxes(context: ServiceContext, query: SandboxListQuery): Promise<SandboxList> {
  const position = query.nextToken === undefined ? undefined : parsePageToken(query.nextToken);
  const filter: RunningSandboxFilter = {
    metadata: parseMetadataFilter(query.metadata),
    template: query.template,
    startedAfterMs: query.startedAfter === undefined ? undefined : Date.parse(query.startedAfter),
  };
  // Nothing can be paused yet, so a list without running sandboxes is empty.
  if (query.state !== undefined && !query.state.includes('running'))
    return { sandboxes: [], nextToken: undefined, totalRunning: await countRunning(context.db, filter) };

  const order = position?.order ?? query.order ?? 'desc';
  const found = await listRunning(context.db, filter, { order, after: position?.after, limit: query.limit + 1 });
  const sandboxes = found.slice(0, query.limit);
  const last = found.length > query.limit ? sandboxes.at(-1) : undefined;
  return {
    sandboxes,
    nextToken: last && formatPageToken({ order, after: { startedAtMs: last.startedAtMs, id: last.id } }),
    totalRunning: await countRunning(context.db, filter),
  };
}

/** More running sandboxes than one server can hold: the list without pages is bounded all the same. */
const UNPAGED_LIMIT = 10_000;

/** Every running sandbox that has the metadata, newest first. Throws `invalid_request`. */
export function listAllSandboxes(context: ServiceContext, metadata: string | undefined): Promise<SandboxRecord[]> {
  const filter = { metadata: parseMetadataFilter(metadata) };
  return listRunning(context.db, filter, { order: 'desc', limit: UNPAGED_LIMIT });
}
