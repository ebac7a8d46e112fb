import { z } from 'zod';
import { seconds } from './common.ts';

/** Body of `POST /sandboxes/{sandboxID}/timeout`. */
export const sandboxTimeoutBody = z.object({ timeout: seconds });

/** Body of `POST /sandboxes/{sandboxID}/refreshes`, which may be missing altogether. Seconds. */
export const sandboxRefreshBody = z.object({ duration: z.int().min(0).max(3600).default(0) }).prefault({});
