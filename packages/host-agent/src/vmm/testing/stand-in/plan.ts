import { readFileSync } from 'node:fs';
import { z } from 'zod';

/** A call that goes wrong on purpose. */
const failure = z.object({
  /** E.g. `PUT /actions`; a prefix of it is enough. */
  call: z.string(),
  /**
   * `fault`: refused. `die`: the process ends before it does anything. `die-after`: it does it and ends instead of
   * answering. `hang`: no answer ever. `slow`: the answer comes after `delayMs`. `truncate`: the answer is cut off.
   * `restart`, `shut-down`: it is answered, and then the guest restarts or shuts down (Cloud Hypervisor).
   */
  how: z.enum(['fault', 'die', 'die-after', 'hang', 'slow', 'truncate', 'restart', 'shut-down']),
  /** Default 0. */
  delayMs: z.number().optional(),
});

export type PlannedFailure = z.infer<typeof failure>;

const guest = z.object({
  /** Gets the VM's address and what it shall do wrong as its last arguments, and says when it listens. */
  command: z.array(z.string()),
  /** Has a file for each VM's id with its address, and `mood`. */
  addressDir: z.string(),
});

export type GuestPlan = z.infer<typeof guest>;

/** What a stand-in shall do. Read anew for each request, so a test can change it as it goes. */
export const standInPlan = z.object({
  vmm: z.enum(['firecracker', 'cloud-hypervisor']),
  version: z.string(),
  /** The VMM's own description of its API; requests that are not as it says are refused. */
  descriptionPath: z.string().optional(),
  /** Each request is appended here: one JSON a line. */
  journalPath: z.string(),
  /** The guest never shows its sign of life. */
  silent: z.boolean().optional(),
  /** The process ends at once, with words. */
  doomed: z.boolean().optional(),
  /** The socket never appears. */
  noSocket: z.boolean().optional(),
  failures: z.array(failure).optional(),
  /** What runs in the guests. Default: nothing. */
  guest: guest.optional(),
  /** Of a Cloud Hypervisor that a guest has taken over: it leaves a link to this file where it should have saved the memory. */
  memoryLink: z.string().optional(),
  /** Of a VM restored on demand: the guest has read all of its memory. */
  preloaded: z.boolean().optional(),
});

export type StandInPlan = z.infer<typeof standInPlan>;

export function readPlan(path: string): StandInPlan {
  return standInPlan.parse(JSON.parse(readFileSync(path, 'utf8')));
}

/** A line of the journal. */
export const journalEntry = z.object({
  pid: z.number(),
  method: z.string(),
  path: z.string(),
  body: z.unknown().optional(),
  status: z.number(),
  /** Why a request was not as described, or came at the wrong time. */
  fault: z.string().optional(),
  /** The request is one that no VMM of this version should ever be sent. */
  violation: z.boolean().optional(),
  /** What the guest has in its memory, as one number, after this request. */
  memory: z.number().optional(),
});

export type JournalEntry = z.infer<typeof journalEntry>;
