import { z } from 'zod';
import { timestamp } from './common.ts';

const tracedOperation = z.object({
  /** create, pause, resume, fork or snapshot. */
  name: z.string(),
  startedAt: timestamp,
  /** Parts of the operation, which may overlap. Milliseconds from its begin. */
  stages: z.array(z.object({ name: z.string(), startMs: z.number(), durationMs: z.number() })),
  /** Missing when it succeeded. */
  error: z.string().optional(),
});

/** Answer of `GET /sandboxes/{sandboxID}/trace`: where the time of its latest operations went, newest first. */
export const sandboxTraceBody = z.object({ operations: z.array(tracedOperation) });
export type SandboxTrace = z.infer<typeof sandboxTraceBody>;
