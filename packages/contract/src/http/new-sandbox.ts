import { z } from 'zod';
import { seconds, stringMap, textWithoutNul } from './common.ts';
import { sandboxNetworkConfig } from './network-config.ts';

/** `Sandbox.create()` of clients that still use the first path gets 15 s when it names no time-out. */
export const DEFAULT_TIMEOUT_SEC = 15;
/** The second path's default, of create and connect. */
export const DEFAULT_TIMEOUT_V2_SEC = 300;

const environmentName = textWithoutNul
  .min(1)
  .max(1024)
  .refine((name) => !name.includes('='), 'must not contain "="');

/** The kernel's limit of one string of a program's environment, its end included. Source: execve(2), MAX_ARG_STRLEN. */
const MAX_VARIABLE_BYTES = 131_072;

const environment = z.record(environmentName, textWithoutNul).superRefine((variables, context) => {
  for (const [name, value] of Object.entries(variables))
    if (Buffer.byteLength(`${name}=${value}`) >= MAX_VARIABLE_BYTES)
      context.addIssue({
        code: 'custom',
        path: [name],
        message: `no program could be started with it: with its name it must have less than ${MAX_VARIABLE_BYTES} bytes`,
      });
});

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
  envVars: environment.optional(),
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
