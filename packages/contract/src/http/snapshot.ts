import { z } from 'zod';
import { pageLimit } from './common.ts';

/** Body of `POST /sandboxes/{sandboxID}/snapshots`, which may be missing altogether. `name` may carry a tag: `name:tag`. */
export const sandboxSnapshotBody = z
  .object({ name: z.string().optional(), memory: z.boolean().default(true) })
  .prefault({});

/** A snapshot: a template that was made of a sandbox. Both fields can be given to a create as its template. */
export const snapshotInfoBody = z.object({
  snapshotID: z.string(),
  /** With their tags; empty when it was given no name. */
  names: z.array(z.string()),
  /** What is known to be damaged of it, in plain words. Not of the E2B wire. */
  damage: z.string().optional(),
});
export type SnapshotInfo = z.infer<typeof snapshotInfoBody>;

/** Query of `GET /snapshots`. `name` is a name, a name with a tag, or an id. */
export const snapshotListQuery = z.object({
  sandboxID: z.string().optional(),
  name: z.string().optional(),
  limit: pageLimit,
  nextToken: z.string().optional(),
});
export type SnapshotListQuery = z.infer<typeof snapshotListQuery>;
