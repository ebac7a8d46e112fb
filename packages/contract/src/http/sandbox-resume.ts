import { z } from 'zod';
import { seconds } from './common.ts';
import { DEFAULT_TIMEOUT_SEC, DEFAULT_TIMEOUT_V2_SEC } from './new-sandbox.ts';

/** False: a paused sandbox boots from its disk, whether or not its memory was kept. */
const memory = z.boolean().default(true);

/** Body of `POST /sandboxes/{sandboxID}/resume`, which may be missing altogether. */
export const resumedSandboxBody = z
  .object({
    timeout: seconds.default(DEFAULT_TIMEOUT_SEC),
    memory,
    /** In the place of what the create said, when it is given. */
    autoPause: z.boolean().optional(),
  })
  .prefault({});
export type ResumedSandbox = z.infer<typeof resumedSandboxBody>;

/** Body of `POST /sandboxes/{sandboxID}/connect`. */
export const connectSandboxBody = z.object({ timeout: seconds, memory });

/** Body of `POST /v2/sandboxes/{sandboxID}/connect`, which may be missing altogether. */
export const connectSandboxV2Body = z.object({ timeout: seconds.default(DEFAULT_TIMEOUT_V2_SEC), memory }).prefault({});
export type ConnectSandbox = z.infer<typeof connectSandboxBody>;
