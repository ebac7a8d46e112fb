import { mkdir, rm } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { mapDiskFull, requireFreeSpace } from '../storage/disk-space.ts';
import type { CurrentImages } from '../storage/images-file.ts';
import { hostLayout } from '../storage/layout.ts';
import { installLine, missingPackages } from './host-packages.ts';
import { removeEarlierImages } from './remove-earlier-images.ts';
import { acquireSetupLock } from './setup-lock.ts';
import { debianParts, type SetupParts, type StepContext } from './setup-parts.ts';
import { readCurrentImages, writeCurrentImages } from './setup-record.ts';
import { runStep, type StepOutcome } from './setup-steps.ts';
import type { SetUpOptions, SetupStep } from './setup-types.ts';

/**
 * Makes everything that sandboxes boot from: packages of the host, kernel, initial RAM disk, agent disk, the template
 * `base`. What is there is left as it is, so that a second call takes milliseconds; what an interrupted call left is
 * removed and done again. Nothing is left running or mounted, however it ends. Needs root.
 * Throws not_set_up (with the line to run), conflict (another set-up runs), host_disk_full,
 * deadline_exceeded (aborted), internal.
 */
export async function setUp(options: SetUpOptions): Promise<CurrentImages> {
  if (process.geteuid?.() !== 0) {
    const missing = await missingPackages();
    const first = missing.length === 0 ? '' : ` Missing packages can be installed with: ${installLine(missing)}`;
    throw new NestboxError('not_set_up', `Setting up needs root. Run: sudo npx nestbox setup.${first}`);
  }
  return runSetUp(options, debianParts);
}

/** `setUp` with the work of the steps given, so that tests can interrupt it in the middle of each. */
export async function runSetUp(options: SetUpOptions, parts: SetupParts): Promise<CurrentImages> {
  const { paths, buildAgentBundle, agentSources, onProgress, force = false, signal } = options;
  const layout = hostLayout(paths);
  const workDir = layout.setupWorkDir;
  try {
    // Others may pass through it, as apt's own user must, but not list it.
    await mkdir(paths.stateDir, { recursive: true, mode: 0o711 });
    await using cleanUp = new AsyncDisposableStack();
    cleanUp.use(await acquireSetupLock(layout.setupLock));
    // We hold the lock, so whatever is in there is left of a set-up that was ended.
    await rm(workDir, { recursive: true, force: true });
    await mkdir(workDir, { mode: 0o700 });
    cleanUp.defer(() => rm(workDir, { recursive: true, force: true }));
    if ((await readCurrentImages(layout)) === undefined) await requireFreeSpace(paths.stateDir, FIRST_SETUP_FREE_BYTES);

    const run = <T>(step: SetupStep, work: (context: StepContext) => Promise<StepOutcome<T>>) => {
      signal?.throwIfAborted();
      return runStep(
        step,
        onProgress,
        (onDetail) =>
          work({ layout, workDir, force, buildAgentBundle, agentSources, onDetail, ...(signal && { signal }) }),
        signal,
      );
    };
    await run('packages', (context) => parts.packages(context));
    const kernel = await run('kernel', (context) => parts.kernel(context));
    const initrdPath = await run('initrd', (context) => parts.initrd(context, kernel));
    const agentDisk = await run('agent-disk', (context) => parts.agentDisk(context, kernel));
    await run('base-template', (context) => parts.baseTemplate(context));

    const images: CurrentImages = {
      kernelVersion: kernel.version,
      kernelPath: kernel.kernelPath,
      initrdPath,
      agentDiskPath: agentDisk.path,
      agentDiskHash: agentDisk.hash,
    };
    await writeCurrentImages(layout, images);
    await removeEarlierImages(layout, images);
    return images;
  } catch (error) {
    throw toSetupError(error, signal);
  }
}

/** The images take 1 GiB, what they are built from as much again for a while. */
const FIRST_SETUP_FREE_BYTES = 2.5 * 2 ** 30;

/** The one place where what can go wrong in a step becomes an error of ours. */
function toSetupError(error: unknown, signal: AbortSignal | undefined): NestboxError {
  if (signal?.aborted)
    return new NestboxError('deadline_exceeded', 'The set-up was interrupted; the next one goes on from there.', {
      cause: signal.reason,
    });
  const mapped = mapDiskFull(error);
  if (mapped instanceof NestboxError) return mapped;
  const reason = error instanceof Error ? error.message : String(error);
  return new NestboxError('internal', `The set-up failed: ${reason}`, { cause: error });
}
