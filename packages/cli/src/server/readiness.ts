import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NestboxError } from '@nestbox/contract';
import { prepareTemplates } from '@nestbox/host-agent';
import { type HostCheck, hostChecks } from '@nestbox/host-agent/doctor';
import { checkSetup, type SetupProgress, setUp } from '@nestbox/host-agent/image';
import { hostLayout } from '@nestbox/host-agent/storage';
import { selectDriver } from '@nestbox/host-agent/vmm';
import { createLogger, type NestboxPaths } from '@nestbox/kit';

/**
 * Throws NestboxError: forbidden (not root), not_set_up (names what is missing), each with the command that mends it.
 */
export async function requireReadyHost(paths: NestboxPaths): Promise<void> {
  if (process.geteuid?.() !== 0)
    throw new NestboxError(
      'forbidden',
      'Starting VMs and their networks needs root. Run the same command with sudo, or set E2B_API_URL, E2B_SANDBOX_URL and E2B_API_KEY to use a server that runs already.',
    );
  await requireFolder(paths);
  const { missing } = await checkSetup(paths, agentSources());
  if (missing.length > 0)
    throw new NestboxError(
      'not_set_up',
      `This machine is not set up: ${missing.map(({ what }) => what).join('; ')}. Run: nestbox setup`,
    );
}

/** Throws NestboxError `invalid_request` when something else than a folder has the state folder's name, or where there can be none. */
export async function requireFolder({ stateDir }: NestboxPaths): Promise<void> {
  // Node would try for ever to make folders there.
  if (/^\/(?:proc|sys)(?:\/|$)/.test(stateDir))
    throw new NestboxError(
      'invalid_request',
      `NESTBOX_DIR names ${stateDir}, where the kernel takes no files. Set it to another folder.`,
    );
  const found = await stat(stateDir).catch(() => undefined);
  if (found?.isDirectory() === false)
    throw new NestboxError(
      'invalid_request',
      `NESTBOX_DIR names ${stateDir}, which is no folder. Set it to another one.`,
    );
}

/** Makes what is missing. Throws what `setUp` throws: not_set_up without root, with the line to run. */
export async function setUpHost(
  paths: NestboxPaths,
  onProgress: (event: SetupProgress) => void,
  options: { readonly force?: boolean; readonly signal?: AbortSignal } = {},
): Promise<void> {
  await requireFolder(paths);
  await setUp({
    paths,
    onProgress,
    agentSources: agentSources(),
    // Loaded only when there is something to build: the bundler is large, and a server has no use for it.
    buildAgentBundle: async (outDir) => (await import('@nestbox/guest-agent')).buildGuestAgentBundle(outDir),
    force: options.force ?? false,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  await prepareTemplates({ paths, onProgress, ...(options.signal === undefined ? {} : { signal: options.signal }) });
}

/** Every need of this machine, met or not, in the order in which one would mend them. Changes nothing. */
export async function examineHost(paths: NestboxPaths, vmm: string): Promise<HostCheck[]> {
  await requireFolder(paths);
  const driver = await selectDriver(vmm, {
    runRoot: paths.runDir,
    instance: paths.instance,
    cacheDir: hostLayout(paths).cacheDir,
    logger: createLogger({ level: 'silent' }),
  });
  try {
    return await hostChecks({
      paths,
      agentSources: agentSources(),
      describeVmm: () => driver.describe(),
      diskFormats: driver.features.diskFormats,
    });
  } finally {
    await driver.close();
  }
}

/** What the guest agent's bundle is made from: our sources, and the exact versions of the packages that go into it. */
function agentSources(): string[] {
  return ['@nestbox/guest-agent', '@nestbox/contract'].flatMap((name) => {
    const sources = fileURLToPath(new URL('.', import.meta.resolve(name)));
    return [sources, join(sources, '..', 'package.json')];
  });
}
