import { z } from 'zod';

/** `images.json`: what new VMs boot. Paths are absolute. */
export const currentImages = z.object({
  /** Kernel release and Debian's version of it, e.g. `6.1.0-56-cloud-amd64_6.1.192-2`. */
  kernelVersion: z.string(),
  /** What QEMU boots: the uncompressed ELF kernel (PVH) where the kernel allows it, else the bzImage. */
  kernelPath: z.string(),
  initrdPath: z.string(),
  agentDiskPath: z.string(),
  agentDiskHash: z.string(),
});

export type CurrentImages = z.infer<typeof currentImages>;

/** `templates/<id>/template.json`, written last, beside `rootfs.ext4` (raw, sparse, read-only). */
export const templateFile = z.object({
  templateId: z.string(),
  /** Names by which a create may ask for it, e.g. `base`. */
  names: z.array(z.string()),
  vcpuCount: z.int().min(1).max(32),
  memoryMib: z.int().min(128),
  /** Size of the root disk as the guest sees it. */
  diskMib: z.int().min(64),
  /** Set into the guest agent by /init. */
  defaultUser: z.string(),
  defaultWorkdir: z.string().optional(),
  envVars: z.record(z.string(), z.string()),
  createdAtMs: z.int(),
  /** Folder beside this file with a state to restore. Missing: sandboxes boot. */
  snapshot: z
    .string()
    .regex(/^snapshot-[0-9a-f]{8}$/)
    .optional(),
  /** The sandbox that this is a snapshot of; missing for a template that was built. */
  originSandboxId: z.string().optional(),
});

export type TemplateFile = z.infer<typeof templateFile>;
