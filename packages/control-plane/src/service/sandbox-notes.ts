import { z } from 'zod';
import { type SandboxRecord, toRow } from '../store/sandbox-record.ts';
import type { SandboxTable } from '../store/schema.ts';

/**
 * What a host keeps of a sandbox's row for the day on which the row is lost (service/adopt-sandbox.ts). It is the row itself, so
 * that a new column is in it too. No secret is in a row; the host keeps it in a file for root alone.
 */
export function notesOf(record: SandboxRecord): string {
  return JSON.stringify(toRow(record));
}

const flag = z.union([z.literal(0), z.literal(1)]);

/** What of a row nobody but the control plane knows. */
const notedColumns = z
  .object({
    team_id: z.string(),
    alias: z.string().nullable(),
    metadata: z.string().nullable(),
    created_at_ms: z.int(),
    started_at_ms: z.int(),
    secure: flag,
    allow_internet_access: flag.nullable(),
    allow_public_traffic: flag,
    network: z.string().nullable(),
    auto_pause: flag,
    auto_pause_memory: flag,
    auto_resume: flag,
    timeout_sec: z.int().positive(),
  })
  .partial();

export type NotedColumns = Partial<Pick<SandboxTable, keyof z.infer<typeof notedColumns>>>;

/** Empty when there are no notes, or none that this version can read. */
export function readNotes(notes: string): NotedColumns {
  try {
    const columns = notedColumns.parse(JSON.parse(notes));
    return Object.fromEntries(Object.entries(columns).filter(([, value]) => value !== undefined));
  } catch {
    return {};
  }
}
