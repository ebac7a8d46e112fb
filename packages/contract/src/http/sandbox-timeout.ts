import { z } from 'zod';
import { seconds } from './common.ts';
import { DEFAULT_TIMEOUT_V2_SEC } from './new-sandbox.ts';

/** Body of `POST /sandboxes/{sandboxID}/connect`. `memory` chooses how a paused sandbox is resumed. */
export const connectSandboxBody = z.object({ timeout: seconds, memory: z.boolean().optional() });

/** Body of `POST /v2/sandboxes/{sandboxID}/connect`, which may be missing altogether. */
export const connectSandboxV2Body = z
  .object({ timeout: seconds.default(DEFAULT_TIMEOUT_V2_SEC), memory: z.boolean().optional() })
  .prefault({});

/** Body of `POST /sandboxes/{sandboxID}/timeout`. */
export const sandboxTimeoutBody = z.object({ timeout: seconds });

/** Body of `POST /sandboxes/{sandboxID}/refreshes`, which may be missing altogether. Seconds. */
export const sandboxRefreshBody = z.object({ duration: z.int().min(0).max(3600).default(0) }).prefault({});
