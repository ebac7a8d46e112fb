import { z } from 'zod';
import { timestamp } from './common.ts';
import { sandboxNetworkConfig } from './network-config.ts';

export const sandboxState = z.enum(['running', 'paused']);

const sandboxMetadata = z.record(z.string(), z.string());
const volumeMounts = z.array(z.object({ name: z.string(), path: z.string() }));

/** Answer of create and connect: what a client needs to reach the sandbox. */
export const sandboxBody = z.object({
  templateID: z.string(),
  sandboxID: z.string(),
  alias: z.string().optional(),
  clientID: z.string(),
  envdVersion: z.string(),
  envdAccessToken: z.string().optional(),
  trafficAccessToken: z.string().nullish(),
  domain: z.string().nullish(),
});
export type Sandbox = z.infer<typeof sandboxBody>;

/** An item of the lists. */
export const listedSandboxBody = z.object({
  templateID: z.string(),
  alias: z.string().optional(),
  sandboxID: z.string(),
  clientID: z.string(),
  startedAt: timestamp,
  endAt: timestamp,
  cpuCount: z.int(),
  memoryMB: z.int(),
  diskSizeMB: z.int(),
  metadata: sandboxMetadata.optional(),
  state: sandboxState,
  envdVersion: z.string(),
  volumeMounts: volumeMounts.optional(),
});
export type ListedSandbox = z.infer<typeof listedSandboxBody>;

/** Answer of `GET /sandboxes/{sandboxID}`. */
export const sandboxDetailBody = listedSandboxBody.extend({
  envdAccessToken: z.string().optional(),
  allowInternetAccess: z.boolean().nullish(),
  domain: z.string().nullish(),
  network: sandboxNetworkConfig.optional(),
  lifecycle: z.object({ autoResume: z.boolean(), onTimeout: z.enum(['kill', 'pause']) }).optional(),
  /** Of a paused one: what is known to be damaged of it, in plain words. Not of the E2B wire. */
  damage: z.string().optional(),
  /** Of a running one: why its guest stands still, in plain words. Not of the E2B wire. */
  stall: z.string().optional(),
});
export type SandboxDetail = z.infer<typeof sandboxDetailBody>;
