import { z } from 'zod';
import { pageLimit, timestamp } from './common.ts';
import { sandboxState } from './sandbox.ts';

/** Query of `GET /v2/sandboxes`. Several states come comma-joined or repeated. */
export const sandboxListQuery = z.object({
  metadata: z.string().optional(),
  state: z
    .union([z.string(), z.array(z.string())])
    .transform((value) => [value].flat().flatMap((part) => part.split(',')))
    .pipe(z.array(sandboxState))
    .optional(),
  order: z.enum(['asc', 'desc']).optional(),
  startedAfter: timestamp.optional(),
  template: z.string().optional(),
  nextToken: z.string().optional(),
  limit: pageLimit,
});
export type SandboxListQuery = z.infer<typeof sandboxListQuery>;

/** Query of `GET /sandboxes`, the list without pages. */
export const sandboxListQueryV1 = z.object({ metadata: z.string().optional() });
