import { NestboxError } from '@nestbox/contract';
import type { SnapshotInfo } from '@nestbox/contract/http';

/** Ids and names carry a tag on the wire; people leave this one out. */
const DEFAULT_TAG = ':default';

/**
 * The snapshot that a word of the user's names: by id, else by name, with or without the tag `default`. Throws
 * NestboxError `template_not_found`: to the API a snapshot is a template, so a word that names no snapshot must not
 * reach it – it could name a template.
 */
export function findSnapshot(snapshots: readonly SnapshotInfo[], word: string): SnapshotInfo {
  const wanted = normalise(word);
  const found =
    snapshots.find(({ snapshotID }) => normalise(snapshotID) === wanted) ??
    snapshots.find(({ names }) => names.some((name) => normalise(name) === wanted));
  if (found !== undefined) return found;
  throw new NestboxError(
    'template_not_found',
    `There is no snapshot ${JSON.stringify(word)}. See: nestbox snapshot list`,
  );
}

/** As the server reads names: case and surrounding blanks do not matter. */
function normalise(name: string): string {
  const lower = name.trim().toLowerCase();
  return lower.endsWith(DEFAULT_TAG) ? lower.slice(0, -DEFAULT_TAG.length) : lower;
}
