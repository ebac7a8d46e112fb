import { z } from 'zod';
import { timestamp } from './common.ts';

const diskItem = z.object({
  /** sandbox, template, snapshot, image or warm. */
  kind: z.string(),
  id: z.string(),
  name: z.string(),
  /** On the disk, in what only this item uses. */
  ownBytes: z.number(),
  /** On the disk, in what it shares with others. */
  sharedBytes: z.number(),
  memoryBytes: z.number(),
  diskBytes: z.number(),
  /** What is known to be damaged of it, in plain words. */
  damage: z.string().optional(),
});

const hostDiskUsage = z.object({
  hostId: z.string(),
  freeBytes: z.number(),
  totalBytes: z.number(),
  items: z.array(diskItem),
  /** All that rests on the host is being read. */
  isVerifying: z.boolean(),
  /** When that came to its end last. */
  verifiedAt: timestamp.optional(),
});
export type HostDiskUsage = z.infer<typeof hostDiskUsage>;

/** Answer of `GET /disk`: what uses how much of the hosts' disks. Not of the E2B wire. */
export const diskUsageBody = z.object({ hosts: z.array(hostDiskUsage) });
