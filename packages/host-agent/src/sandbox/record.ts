import { z } from 'zod';
import { diskSeal } from '../storage/snapshot-manifest.ts';

const processIdentity = z.object({ pid: z.int().positive(), startTicks: z.int().nonnegative() });

const vmHandle = z.object({
  vmId: z.string(),
  vmm: z.enum(['qemu', 'firecracker', 'cloud-hypervisor', 'fake']),
  process: processIdentity,
  runDir: z.string(),
  cgroup: z
    .string()
    .optional()
    .transform((path): string | undefined => path),
});

const networkSlot = z.object({
  index: z.int().min(1).max(32_767),
  netnsName: z.string(),
  tapName: z.string(),
  guestMac: z.string(),
  guestAddress: z.string(),
  hostReachableAddress: z.string(),
});

const machine = z.object({
  /** Root disk, top layer first. */
  layers: z.array(z.string()).min(1),
  kernelVersion: z.string(),
  agentDiskHash: z.string(),
  envdVersion: z.string(),
});

/** What is true in each state, and only there. */
const situation = z.discriminatedUnion('state', [
  /** Half-made: the next start removes it. */
  z.object({ state: z.literal('starting') }),
  z.object({ state: z.literal('running'), machine, vm: vmHandle, slot: networkSlot }),
  z.object({
    state: z.literal('paused'),
    machine,
    /** False: only the disk was kept. */
    memory: z.boolean(),
    disk: diskSeal,
    pausedAtMs: z.int(),
  }),
  /** On its way out: the next start removes it. */
  z.object({ state: z.literal('stopping') }),
]);

/**
 * `sandbox.json`: all that a host agent needs to find a sandbox again after its predecessor was killed. Secrets are in it,
 * so the file is for root alone.
 */
export const sandboxRecord = z.object({
  format: z.literal(2),
  sandboxId: z.string(),
  /** What the create asked for: the id or a name. */
  requestedTemplate: z.string(),
  templateId: z.string(),
  vcpuCount: z.int().min(1),
  memoryMib: z.int().min(1),
  diskMib: z.int().min(1),
  envVars: z.record(z.string(), z.string()),
  accessToken: z.string().optional(),
  /** Of the control plane, for the case that it loses its own. */
  notes: z.string().optional(),
  allowInternetAccess: z.boolean(),
  /** Missing in records from before there were rules. */
  allowOut: z.array(z.string()).default([]),
  denyOut: z.array(z.string()).default([]),
  /** What the template says of its guests; the template may be gone by the time it is needed again. */
  guest: z.object({
    envVars: z.record(z.string(), z.string()),
    defaultUser: z.string(),
    defaultWorkdir: z.string().optional(),
  }),
  createdAtMs: z.int(),
  situation,
});

export type SandboxRecord = z.infer<typeof sandboxRecord>;
export type Situation = SandboxRecord['situation'];
export type GuestSettings = SandboxRecord['guest'];
