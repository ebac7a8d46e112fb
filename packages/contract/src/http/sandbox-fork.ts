import { z } from 'zod';
import { seconds } from './common.ts';
import { errorBody } from './error-body.ts';
import { DEFAULT_TIMEOUT_SEC } from './new-sandbox.ts';
import { sandboxBody } from './sandbox.ts';

/** Copies that one call makes at most. */
export const MAX_FORK_COUNT = 100;

/** Body of `POST /sandboxes/{sandboxID}/fork`, which may be missing altogether. */
export const sandboxForkBody = z
  .object({
    timeout: seconds.default(DEFAULT_TIMEOUT_SEC),
    count: z.int().min(1).max(MAX_FORK_COUNT).default(1),
  })
  .prefault({});
export type SandboxFork = z.infer<typeof sandboxForkBody>;

/** One copy: it succeeded or failed, whatever became of the others. */
export const sandboxForkResultBody = z.union([z.object({ sandbox: sandboxBody }), z.object({ error: errorBody })]);
export type SandboxForkResult = z.infer<typeof sandboxForkResultBody>;
