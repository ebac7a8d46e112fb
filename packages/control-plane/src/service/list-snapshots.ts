import { parseSandboxId } from '@nestbox/contract';
import type { SnapshotInfo, SnapshotListQuery } from '@nestbox/contract/http';
import { formatPageToken, parsePageToken } from './page-token.ts';
import { describeSnapshot } from './snapshot-info.ts';
import type { TeamContext } from './team-context.ts';
import { type CatalogEntry, isSnapshot, namesOf, readCatalog } from './template-catalog.ts';
import { DEFAULT_TAG, readTemplateName } from './template-name.ts';

export interface SnapshotPage {
  readonly snapshots: readonly SnapshotInfo[];
  /** Undefined on the last page. */
  readonly nextToken: string | undefined;
}

/** One page of what the connected hosts have, newest first. Throws `invalid_request` and `host_unavailable`. */
export async function listSnapshots(
  context: TeamContext,
  { sandboxID, name, limit, nextToken }: SnapshotListQuery,
  signal?: AbortSignal,
): Promise<SnapshotPage> {
  const after = nextToken === undefined ? undefined : parsePageToken(nextToken).after;
  const catalog = await readCatalog(context, signal);
  const rest = [...catalog.values()]
    .filter((entry) => isSnapshot(entry))
    .filter(({ template }) => sandboxID === undefined || template.originSandboxId === parseSandboxId(sandboxID))
    .filter((entry) => name === undefined || isCalled(entry, name))
    .map(({ template }) => ({ template, id: template.templateId, createdAtMs: Number(template.createdAtMs) }))
    .sort((a, b) => b.createdAtMs - a.createdAtMs || (a.id < b.id ? -1 : 1))
    .filter(
      ({ id, createdAtMs }) =>
        after === undefined || createdAtMs < after.startedAtMs || (createdAtMs === after.startedAtMs && id > after.id),
    );
  const page = rest.slice(0, limit);
  const last = rest.length > limit ? page.at(-1) : undefined;
  return {
    snapshots: page.map(({ template }) => describeSnapshot(template)),
    nextToken: last && formatPageToken({ order: 'desc', after: { startedAtMs: last.createdAtMs, id: last.id } }),
  };
}

/** `wanted` is an id or a name; with a tag it must be that one, without it may be any. */
function isCalled(entry: CatalogEntry, wanted: string): boolean {
  const { base, tag } = readTemplateName(wanted);
  const isAnyTag = !wanted.includes(':');
  const isById = entry.template.templateId === base;
  if (isById && (isAnyTag || tag === DEFAULT_TAG)) return true;
  return namesOf(entry).some((known) => (isById || known.base === base) && (isAnyTag || known.tag === tag));
}
