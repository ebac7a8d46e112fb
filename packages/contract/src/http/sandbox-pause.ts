import { z } from 'zod';

/** Body of `POST /sandboxes/{sandboxID}/pause`, which may be missing altogether. `memory` false keeps the disk alone. */
export const sandboxPauseBody = z
  .object({ memory: z.boolean().default(true), requireHealthyGuest: z.boolean().default(false) })
  .prefault({});
