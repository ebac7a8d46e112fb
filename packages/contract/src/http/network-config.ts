import { z } from 'zod';

const networkRule = z.object({
  transform: z.object({ headers: z.record(z.string(), z.string()).optional() }).optional(),
});

const egressProxy = z.object({
  address: z.string(),
  username: z.string().optional(),
  password: z.string().optional(),
});

/** `network` of a create request. What of it works is decided by the server (docs/compatibility.md). */
export const sandboxNetworkConfig = z.object({
  allowPublicTraffic: z.boolean().optional(),
  allowOut: z.array(z.string()).optional(),
  denyOut: z.array(z.string()).optional(),
  egressProxy: egressProxy.nullish(),
  maskRequestHost: z.string().optional(),
  rules: z.record(z.string(), z.array(networkRule)).optional(),
  httpsPorts: z.array(z.int()).optional(),
  dnsServers: z.array(z.string()).nullish(),
});

/** Body of `PUT /sandboxes/{sandboxID}/network`: all of where the sandbox may connect to. What is left out is cleared. */
export const sandboxNetworkUpdate = sandboxNetworkConfig
  .pick({ allowOut: true, denyOut: true, egressProxy: true, rules: true, dnsServers: true })
  .extend({ allow_internet_access: z.boolean().optional() });

export type SandboxNetworkUpdate = z.infer<typeof sandboxNetworkUpdate>;
export type SandboxNetworkConfig = z.infer<typeof sandboxNetworkConfig>;
