import { CommandError, type CommandResult, runCommand } from '@nestbox/kit';
import { runTool } from './run-tool.ts';
import { toolEnvironment } from './tool-environment.ts';

export interface AptOptions {
  readonly cwd?: string;
  readonly onOutput?: (text: string) => void;
  readonly signal?: AbortSignal;
}

/** How long apt waits for another apt or dpkg (an unattended upgrade, say) to end. */
const LOCK_WAIT_SECONDS = 120;

/** Proxies that the user set for this shell reach apt, which fetches, and nothing that stays. */
const PROXY_VARIABLES = ['http_proxy', 'https_proxy', 'ftp_proxy', 'no_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'];

/** The environment of everything that fetches packages: English, no questions, the user's proxies. */
export function aptEnvironment(env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  const proxies = PROXY_VARIABLES.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]] as const]));
  return { ...toolEnvironment(), DEBIAN_FRONTEND: 'noninteractive', HOME: '/root', ...Object.fromEntries(proxies) };
}

/**
 * Fetches with this machine's own configuration: its mirrors, its keys. apt verifies the signature of the index and the
 * hash of each package against it; a fetch that cannot be verified fails.
 */
export function aptFetch(args: readonly string[], { cwd, onOutput, signal }: AptOptions = {}): Promise<CommandResult> {
  return runTool('apt-get', [...APT_FLAGS, ...args], {
    env: aptEnvironment(),
    ...(cwd !== undefined && { cwd }),
    ...(onOutput && { onOutput }),
    ...(signal && { signal }),
  });
}

/**
 * Installs packages on this machine. It is let come to its end even when we do not: packages that are half set up would
 * be in the way of whoever installs something next.
 */
export function aptInstall(names: readonly string[], onOutput: (text: string) => void): Promise<CommandResult> {
  return runCommand('apt-get', [...APT_FLAGS, 'install', '--no-install-recommends', ...names], {
    env: aptEnvironment(),
    onOutput,
  });
}

const APT_FLAGS = ['-q', '-y', '-o', `DPkg::Lock::Timeout=${LOCK_WAIT_SECONDS}`];

/**
 * Does something that needs the package indexes; when it fails, fetches them anew and does it once more. A machine
 * fresh from an image has no indexes, and an old machine's name packages that the mirror no longer has.
 */
export async function withFreshIndexes<T>(attempt: () => Promise<T>, options: AptOptions = {}): Promise<T> {
  try {
    return await attempt();
  } catch (error) {
    if (!(error instanceof CommandError) || options.signal?.aborted) throw error;
    await aptFetch(['update'], options);
    return attempt();
  }
}
