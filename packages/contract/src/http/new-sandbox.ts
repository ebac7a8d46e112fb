import { z } from 'zod';
import { seconds, stringMap, textWithoutNul } from './common.ts';
import { sandboxNetworkConfig } from './network-config.ts';

/** `Sandbox.create()` of clients that still use the first path gets 15 s when it names no time-out. */
export const DEFAULT_TIMEOUT_SEC = 15;
/** The second path's default, of create and connect. */
export const DEFAULT_TIMEOUT_V2_SEC = 300;

const environmentName = textWithoutNul.min(1).refine((name) => !name.includes('='), 'must not contain "="');

const iam = z.object({
  tokens: z.record(z.string(), z.object({ audience: z.string(), tokenType: z.string() })).optional(),
});

const volumeMount = z.object({ name: z.string(), path: z.string() });

const common = {
  templateID: z.string().min(1),
  /** The time-out pauses the sandbox instead of ending it. */
  autoPause: z.boolean().optional(),
  /** False: that pause keeps the disk alone. */
  autoPauseMemory: z.boolean().optional(),
  /** A request to the paused sandbox resumes it. */
  autoResume: z.object({ enabled: z.boolean() }).optional(),
  allow_internet_access: z.boolean().optional(),
  network: sandboxNetworkConfig.optional(),
  metadata: stringMap.optional(),
  envVars: z.record(environmentName, textWithoutNul).optional(),
  mcp: z.record(z.string(), z.unknown()).nullish(),
  iam: iam.optional(),
  volumeMounts: z.array(volumeMount).optional(),
};

/** Body of `POST /sandboxes`. */
export const newSandboxBody = z.object({
  ...common,
  timeout: seconds.default(DEFAULT_TIMEOUT_SEC),
  secure: z.boolean().default(false),
});

/** Body of `POST /v2/sandboxes`, which current clients use: always secure, longer default time-out. */
export const newSandboxV2Body = z.object({
  ...common,
  timeout: seconds.default(DEFAULT_TIMEOUT_V2_SEC),
});

export type NewSandbox = z.infer<typeof newSandboxBody>;
