import { z } from 'zod';

const processIdentity = z.object({ pid: z.int().positive(), startTicks: z.int().nonnegative() });

const vmHandle = z.object({
  sandboxId: z.string(),
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

/**
 * `sandbox.json`: all that a host agent needs to find a sandbox again after its predecessor was killed. Written before
 * the VM starts, so that whatever a crash leaves has a record; secrets are in it, so the file is for root alone.
 */
export const sandboxRecord = z.object({
  format: z.literal(1),
  sandboxId: z.string(),
  /** What the create asked for: the id or a name. */
  requestedTemplate: z.string(),
  templateId: z.string(),
  /** `starting` and `stopping` are half-made: the next start removes them. */
  state: z.enum(['starting', 'running', 'stopping']),
  vcpuCount: z.int().min(1),
  memoryMib: z.int().min(1),
  diskMib: z.int().min(1),
  envVars: z.record(z.string(), z.string()),
  accessToken: z.string().optional(),
  allowInternetAccess: z.boolean(),
  createdAtMs: z.int(),
  envdVersion: z.string(),
  slot: networkSlot,
  /** The disk with the guest agent, which must stay as long as this VM runs. */
  agentDiskHash: z.string(),
  kernelVersion: z.string(),
  /** Missing until the VMM has been started. */
  vm: vmHandle.optional(),
});

export type SandboxRecord = z.infer<typeof sandboxRecord>;
