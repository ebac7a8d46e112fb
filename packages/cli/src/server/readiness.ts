import { fileURLToPath } from 'node:url';
import { NestboxError } from '@nestbox/contract';
import { buildGuestAgentBundle } from '@nestbox/guest-agent';
import { checkSetup, type SetupProgress, setUp } from '@nestbox/host-agent';
import type { NestboxPaths } from '@nestbox/kit';

/**
 * Throws NestboxError: forbidden (not root), not_set_up (names what is missing), each with the command that mends it.
 */
export async function requireReadyHost(paths: NestboxPaths): Promise<void> {
  requireRoot('Running VMs and their networks');
  const { missing } = await checkSetup({ paths, agentSources: agentSources() });
  if (missing.length > 0)
    throw new NestboxError(
      'not_set_up',
      `This machine is not set up: ${missing.map(({ what }) => what).join('; ')}. Run: nestbox setup`,
    );
}

/** Makes what is missing. Throws NestboxError: forbidden (not root), and what `setUp` throws. */
export async function setUpHost(
  paths: NestboxPaths,
  onProgress: (event: SetupProgress) => void,
  options: { readonly force?: boolean; readonly signal?: AbortSignal } = {},
): Promise<void> {
  requireRoot('Setting up');
  await setUp({
    paths,
    onProgress,
    agentSources: agentSources(),
    buildAgentBundle: buildGuestAgentBundle,
    force: options.force ?? false,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
}

/** What the guest agent's bundle is made from. */
function agentSources(): string[] {
  return ['@nestbox/guest-agent', '@nestbox/contract'].map((name) =>
    fileURLToPath(new URL('.', import.meta.resolve(name))),
  );
}

function requireRoot(what: string): void {
  if (process.getuid?.() === 0) return;
  throw new NestboxError('forbidden', `${what} needs root. Run the same command with sudo.`);
}
