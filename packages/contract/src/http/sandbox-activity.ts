import { z } from 'zod';
import { timestamp } from './common.ts';

/** Answer of `GET /sandboxes/{sandboxID}/activity`: what tells an idle sandbox from a busy one. Not of the E2B wire. */
export const sandboxActivityBody = z.object({
  lastActivityAt: timestamp,
  runningCommands: z.int(),
  openConnections: z.int(),
});
export type SandboxActivity = z.infer<typeof sandboxActivityBody>;
