import { z } from 'zod';
import type { GuestConnection } from './guest-connection.ts';
import { callJson, callRest } from './rest-call.ts';

/** Source: envd-interface, "/metrics fields". */
const guestMetrics = z.object({
  ts: z.number(),
  cpu_count: z.number(),
  cpu_used_pct: z.number(),
  mem_total: z.number(),
  mem_used: z.number(),
  mem_cache: z.number(),
  disk_used: z.number(),
  disk_total: z.number(),
});

export interface GuestMetrics {
  readonly timestampMs: number;
  readonly cpuCount: number;
  /** Since the sample before. */
  readonly cpuUsedPct: number;
  readonly memUsedBytes: number;
  readonly memTotalBytes: number;
  readonly memCacheBytes: number;
  readonly diskUsedBytes: number;
  readonly diskTotalBytes: number;
}

export async function readMetrics(guest: GuestConnection, signal?: AbortSignal): Promise<GuestMetrics> {
  const sample = await callJson(guest, { method: 'GET', path: '/metrics' }, guestMetrics, signal);
  return {
    timestampMs: sample.ts * 1000,
    cpuCount: sample.cpu_count,
    cpuUsedPct: sample.cpu_used_pct,
    memUsedBytes: sample.mem_used,
    memTotalBytes: sample.mem_total,
    memCacheBytes: sample.mem_cache,
    diskUsedBytes: sample.disk_used,
    diskTotalBytes: sample.disk_total,
  };
}

const guestActivity = z.object({
  last_request_at_ms: z.number(),
  running_processes: z.number(),
  open_connections: z.number(),
});

export type GuestActivity = z.infer<typeof guestActivity>;

/** What tells an idle sandbox from a busy one. */
export function readActivity(guest: GuestConnection, signal?: AbortSignal): Promise<GuestActivity> {
  return callJson(guest, { method: 'GET', path: '/activity' }, guestActivity, signal);
}

/** The guest stops its port scanner and forwarders and marks open connections, so that they are closed after the restore. */
export async function prepareSnapshot(guest: GuestConnection, signal?: AbortSignal): Promise<void> {
  await callRest(guest, { method: 'POST', path: '/snapshot/prepare' }, [204], signal);
}

/** Collects the guest agent's garbage, before the snapshot of a template. Throws GuestError. */
export async function settle(guest: GuestConnection, signal?: AbortSignal): Promise<void> {
  await callRest(guest, { method: 'POST', path: '/snapshot/settle' }, [204], signal);
}
