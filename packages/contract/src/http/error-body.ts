import { z } from 'zod';

/** Body of every error of the control API and of the proxies. `code` repeats the HTTP status: clients look at it there. */
export const errorBody = z.object({
  code: z.int(),
  error_code: z.string().optional(),
  message: z.string(),
});

export type ErrorBody = z.infer<typeof errorBody>;
