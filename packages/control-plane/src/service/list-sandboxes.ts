import type { SandboxListQuery } from '@nestbox/contract/http';
import type { SandboxFilter } from '../store/sandbox-lists.ts';
import { type ShownState, STATES_SHOWN_AS } from '../store/sandbox-state.ts';
import { parseMetadataFilter } from './metadata-filter.ts';
import { formatPageToken, parsePageToken } from './page-token.ts';
import type { TeamContext } from './team-context.ts';
import { shortName } from './template-name.ts';

export interface SandboxList {
  /** Each as it is shown. */
  readonly sandboxes: readonly string[];
  /** Undefined on the last page. */
  readonly nextToken: string | undefined;
  /** How many running sandboxes the filter matches in all. */
  readonly totalRunning: number;
}

const BOTH_STATES: readonly ShownState[] = ['running', 'paused'];

/** One page of the running and paused sandboxes, newest first unless asked otherwise. Throws `invalid_request`. */
export async function listSandboxes(context: TeamContext, query: SandboxListQuery): Promise<SandboxList> {
  const position = query.nextToken === undefined ? undefined : parsePageToken(query.nextToken);
  const filter: Omit<SandboxFilter, 'states'> = {
    scope: context.scope,
    metadata: parseMetadataFilter(query.metadata),
    template: query.template === undefined ? undefined : shortName(query.template),
    startedAfterMs: query.startedAfter === undefined ? undefined : Date.parse(query.startedAfter),
  };
  const states = (query.state ?? BOTH_STATES).flatMap((state) => STATES_SHOWN_AS[state]);
  const order = position?.order ?? query.order ?? 'desc';
  const { lists } = context;
  const [page, totalRunning] = await Promise.all([
    lists.page({ ...filter, states }, { order, after: position?.after, limit: query.limit }),
    lists.count({ ...filter, states: STATES_SHOWN_AS.running }),
  ]);
  return {
    sandboxes: page.shown,
    nextToken: page.end && formatPageToken({ order, after: page.end }),
    totalRunning,
  };
}

/** More running sandboxes than one server can hold: the list without pages is bounded all the same. */
const UNPAGED_LIMIT = 10_000;

/** Every running sandbox that has the metadata, newest first. Throws `invalid_request`. */
export async function listAllSandboxes(context: TeamContext, metadata: string | undefined): Promise<readonly string[]> {
  const filter = { scope: context.scope, metadata: parseMetadataFilter(metadata), states: STATES_SHOWN_AS.running };
  return (await context.lists.page(filter, { order: 'desc', limit: UNPAGED_LIMIT })).shown;
}
