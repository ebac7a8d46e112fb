import { z } from 'zod';
import { pageLimit, timestamp } from './common.ts';

export const templateBody = z.object({
  templateID: z.string(),
  buildID: z.string(),
  cpuCount: z.int(),
  memoryMB: z.int(),
  diskSizeMB: z.int(),
  public: z.boolean(),
  aliases: z.array(z.string()),
  names: z.array(z.string()),
  createdAt: timestamp,
  updatedAt: timestamp,
  createdBy: z.object({ id: z.string(), email: z.string().nullable() }).nullable(),
  lastSpawnedAt: timestamp.nullable(),
  spawnCount: z.int(),
  buildCount: z.int(),
  envdVersion: z.string(),
  /** `error`: it is damaged. */
  buildStatus: z.enum(['building', 'waiting', 'ready', 'error']),
  /** What is known to be damaged of it, in plain words. Not of the E2B wire. */
  damage: z.string().optional(),
});
export type Template = z.infer<typeof templateBody>;

export const templateListQuery = z.object({ nextToken: z.string().optional(), limit: pageLimit });

/** An id, a name, or either with a tag. */
export const templateIdParams = z.object({ templateID: z.string() });

export const templateAliasParams = z.object({ alias: z.string() });

/** Answer of `GET /templates/aliases/{alias}`. */
export const templateAliasBody = z.object({ templateID: z.string(), public: z.boolean() });
