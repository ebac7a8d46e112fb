import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { NestboxError } from '@nestbox/contract';
import { type LogLevel, type NestboxPaths, resolvePaths, STOP_TIMEOUT_MS } from '@nestbox/kit';
import { z } from 'zod';
import type { ListenAddress } from './proxy/proxy-server.ts';
import type { HostLimits } from './sandbox/host-limits.ts';
import { collectWarmOrder, type WarmOrder } from './sandbox/warm-order.ts';

export interface DaemonConfig {
  readonly paths: NestboxPaths;
  readonly listen: ListenAddress;
  readonly token: string | undefined;
  readonly logLevel: LogLevel;
  readonly vmm: string;
  readonly accelerator: 'auto' | 'kvm' | 'tcg';
  readonly warm: readonly WarmOrder[];
  readonly limits: Partial<HostLimits>;
  readonly useSnapshots: boolean;
  /** From one reading of all that rests here to the next; 0: never. */
  readonly scrubIntervalMs: number;
  readonly allowPrivate: readonly string[];
  /** Where Prometheus may read; undefined: nowhere. */
  readonly metrics: { readonly host: string; readonly port: number } | undefined;
  /** How long a stop waits for calls of the control plane that are under way. */
  readonly stopTimeoutMs: number;
}

export const USAGE = `Usage: host-agent [--listen unix:PATH | HOST:PORT] [--token-file FILE] [--vmm NAME]
                  [--accelerator auto|kvm|tcg] [--log-level LEVEL] [--warm TEMPLATE=N …]
                  [--max-snapshots N] [--max-snapshot-gib N] [--scrub-hours N] [--no-snapshots]
                  [--allow-private ADDRESS|CIDR …] [--metrics HOST:PORT] [--stop-timeout SECONDS]
Environment: NESTBOX_DIR (state folder), NESTBOX_HOST_TOKEN (the token, instead of a file)
Default: listens on unix:<run folder>/host-agent.sock. A TCP address needs a token.`;

const MOST_SCRUB_HOURS = 8760;

const flags = z.object({
  warm: z.array(z.string()).default([]),
  'max-snapshots': z.coerce.number().int().nonnegative().optional(),
  'max-snapshot-gib': z.coerce.number().nonnegative().optional(),
  'scrub-hours': z.coerce.number().int().min(0).max(MOST_SCRUB_HOURS).default(24),
  'no-snapshots': z.boolean().default(false),
  'allow-private': z.array(z.string()).default([]),
  listen: z.string().optional(),
  metrics: z.string().optional(),
  'stop-timeout': z.coerce
    .number()
    .int()
    .min(0)
    .max(3600)
    .default(STOP_TIMEOUT_MS / 1000),
  'token-file': z.string().optional(),
  vmm: z.string().default('auto'),
  accelerator: z.enum(['auto', 'kvm', 'tcg']).default('auto'),
  'log-level': z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'),
});

/** Throws NestboxError invalid_request with the usage. */
export function readDaemonConfig(args: readonly string[], env: NodeJS.ProcessEnv): DaemonConfig {
  const paths = resolvePaths(env);
  const values = parseFlags(args);
  const listen = parseListen(values.listen ?? `unix:${paths.runDir}/host-agent.sock`);
  const token = values['token-file'] === undefined ? env.NESTBOX_HOST_TOKEN : readToken(values['token-file']);
  if ('port' in listen && (token === undefined || token.length < 16))
    throw usage('A TCP address needs a token of at least 16 characters: whoever reaches it can run sandboxes.');
  return {
    paths,
    listen,
    token,
    vmm: values.vmm,
    accelerator: values.accelerator,
    logLevel: values['log-level'],
    warm: readWarm(values.warm),
    limits: {
      ...(values['max-snapshots'] === undefined ? {} : { maxSnapshots: values['max-snapshots'] }),
      ...(values['max-snapshot-gib'] === undefined
        ? {}
        : { maxSnapshotBytes: Math.round(values['max-snapshot-gib'] * 2 ** 30) }),
    },
    useSnapshots: !values['no-snapshots'],
    scrubIntervalMs: Math.round(values['scrub-hours'] * 3_600_000),
    allowPrivate: values['allow-private'],
    metrics: values.metrics === undefined ? undefined : parseMetricsAddress(values.metrics),
    stopTimeoutMs: values['stop-timeout'] * 1000,
  };
}

function readWarm(words: readonly string[]): readonly WarmOrder[] {
  try {
    return words.reduce<readonly WarmOrder[]>((orders, word) => collectWarmOrder(word, orders), []);
  } catch (error) {
    throw usage(NestboxError.from(error).message, error);
  }
}

function parseFlags(args: readonly string[]): z.infer<typeof flags> {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        listen: { type: 'string' },
        metrics: { type: 'string' },
        'stop-timeout': { type: 'string' },
        'token-file': { type: 'string' },
        vmm: { type: 'string' },
        accelerator: { type: 'string' },
        'log-level': { type: 'string' },
        warm: { type: 'string', multiple: true },
        'max-snapshots': { type: 'string' },
        'max-snapshot-gib': { type: 'string' },
        'scrub-hours': { type: 'string' },
        'no-snapshots': { type: 'boolean' },
        'allow-private': { type: 'string', multiple: true },
      },
    });
    return flags.parse(values);
  } catch (error) {
    throw usage(error instanceof z.ZodError ? z.prettifyError(error) : String(error), error);
  }
}

function parseMetricsAddress(text: string): { readonly host: string; readonly port: number } {
  const address = parseListen(text);
  if ('port' in address) return address;
  throw usage(`"${text}" is not HOST:PORT.`);
}

function parseListen(text: string): ListenAddress {
  if (text.startsWith('unix:')) return { socketPath: text.slice('unix:'.length) };
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:]+)):([0-9]{1,5})$/i.exec(text);
  const port = Number(match?.[3]);
  const host = match?.[1] ?? match?.[2];
  if (host === undefined || !(port <= 65_535)) throw usage(`"${text}" is neither unix:PATH nor HOST:PORT.`);
  return { host, port };
}

function readToken(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    throw usage(`The token cannot be read from ${path}.`, error);
  }
}

function usage(message: string, cause?: unknown): NestboxError {
  return new NestboxError('invalid_request', `${message}\n${USAGE}`, { cause });
}
