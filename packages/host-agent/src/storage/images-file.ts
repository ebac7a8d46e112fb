import { z } from 'zod';

/** `images.json`: what new VMs boot. Paths are absolute. */
export const currentImages = z.object({
  kernelVersion: z.string(),
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
});

export type TemplateFile = z.infer<typeof templateFile>;
