import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import type { GuestConnection } from './guest-connection.ts';
import { callJson, callRest } from './rest-call.ts';

const preloadStatus = z.object({
  state: z.enum(['idle', 'running', 'done', 'failed', 'cancelled']),
  regions: z.number(),
  pages: z.number(),
  bytes: z.number(),
  elapsed_sec: z.number(),
  source: z.string(),
  error: z.string().optional(),
});

/** How far the guest is with reading all its memory; the wire's own names. */
export type MemoryPreloadStatus = z.infer<typeof preloadStatus>;

const POLL_INTERVAL_MS = 1000;

/** Starts the loader and answers at once. */
export async function startMemoryPreload(guest: GuestConnection, signal?: AbortSignal): Promise<void> {
  await callRest(guest, { method: 'POST', path: '/memory/preload' }, [200, 202, 204], signal);
}

/** Never starts one. */
export function memoryPreloadStatus(guest: GuestConnection, signal?: AbortSignal): Promise<MemoryPreloadStatus> {
  return callJson(guest, { method: 'GET', path: '/memory/preload' }, preloadStatus, signal);
}

export async function cancelMemoryPreload(guest: GuestConnection, signal?: AbortSignal): Promise<void> {
  await callRest(guest, { method: 'POST', path: '/memory/preload/cancel' }, [204], signal);
}

/** Looks once a second until it no longer runs; answers how it ended. */
export async function waitForMemoryPreload(guest: GuestConnection, signal?: AbortSignal): Promise<MemoryPreloadStatus> {
  for (;;) {
    const status = await memoryPreloadStatus(guest, signal);
    if (status.state !== 'running') return status;
    await delay(POLL_INTERVAL_MS, undefined, signal === undefined ? {} : { signal });
  }
}
