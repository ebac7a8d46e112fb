import { z } from 'zod';
import type { GuestConnection } from './guest-connection.ts';
import { GuestError } from './guest-error.ts';
import { callJson } from './rest-call.ts';

const guestLogs = z.object({
  buffer: z.string().max(100),
  next: z.int().nonnegative(),
  lines: z
    .array(
      z.object({
        time_ms: z.number(),
        level: z.enum(['debug', 'info', 'warn', 'error']),
        message: z.string(),
        fields: z.record(z.string(), z.string()),
      }),
    )
    .max(10_000),
});

export type GuestLogs = z.infer<typeof guestLogs>;

/** The sandbox's own lines behind a position. Undefined: this guest's agent is from before there were any. */
export async function fetchLogs(
  guest: GuestConnection,
  sandboxId: string,
  position: { readonly buffer: string; readonly seq: number } | undefined,
  signal?: AbortSignal,
): Promise<GuestLogs | undefined> {
  const query = new URLSearchParams({
    sandbox: sandboxId,
    ...(position === undefined ? {} : { buffer: position.buffer, after: `${position.seq}` }),
  });
  try {
    return await callJson(guest, { method: 'GET', path: `/logs?${query}` }, guestLogs, signal);
  } catch (error) {
    if (error instanceof GuestError && error.status === 404) return undefined;
    throw error;
  }
}
