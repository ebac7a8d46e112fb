import { NestboxError } from '@nestbox/contract';
import { createLogger, type NestboxPaths } from '@nestbox/kit';
import { startHostAgent } from './host-agent.ts';
import { runStep } from './image/setup-steps.ts';
import type { SetupProgress } from './image/setup-types.ts';
import { readCurrentImages } from './sandbox/current-images.ts';
import { hostLayout } from './storage/layout.ts';
import { machineFiles } from './storage/machine-folder.ts';
import { readManifestFile } from './storage/snapshot-manifest.ts';
import { TemplateStore } from './storage/template-store.ts';
import { selectDriver } from './vmm/select.ts';

export interface TemplatePreparation {
  readonly paths: NestboxPaths;
  readonly onProgress: (event: SetupProgress) => void;
  readonly signal?: AbortSignal;
}

/**
 * The last step of a set-up: boots each template that was built once, and keeps its memory, so that the first create is a
 * restore already. Left to the server when one runs on this state folder, and done by the next one when it fails here, since
 * sandboxes boot without. Throws deadline_exceeded when it was aborted.
 */
export async function prepareTemplates({ paths, onProgress, signal }: TemplatePreparation): Promise<void> {
  await runStep('snapshots', onProgress, async (onDetail) => {
    if (!(await isSnapshotMissing(paths))) return { value: undefined, skipped: true };
    try {
      onDetail('booting each template once');
      await renewAll(paths, onDetail, signal);
      return { value: undefined, skipped: false };
    } catch (error) {
      signal?.throwIfAborted();
      const known = NestboxError.from(error);
      const detail =
        known.code === 'state_dir_in_use'
          ? 'left to the server that runs'
          : `none could be made, so sandboxes boot: ${known.message}`;
      return { value: undefined, skipped: true, detail };
    }
  });
}

async function renewAll(
  paths: NestboxPaths,
  onDetail: (detail: string) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const logger = createLogger({ level: 'silent' });
  const host = await startHostAgent({ paths, logger, networkPoolSize: 0, prepareAtStart: false });
  const onAbort = () => void host.stop();
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    signal?.throwIfAborted();
    await host.manager.prepareTemplates(({ names, templateId }) =>
      onDetail(`booting ${names[0] ?? templateId} and warming it up`),
    );
  } finally {
    signal?.removeEventListener('abort', onAbort);
    await host.stop();
  }
}

/** Looks at the manifests alone, so that a set-up with nothing to do stays quick. */
async function isSnapshotMissing(paths: NestboxPaths): Promise<boolean> {
  const layout = hostLayout(paths);
  const images = await readCurrentImages(layout);
  const built = (await new TemplateStore(layout).list()).templates.filter(
    ({ originSandboxId }) => originSandboxId === undefined,
  );
  if (built.some(({ snapshot }) => snapshot === undefined)) return true;
  const driver = await selectDriver('auto', {
    runRoot: paths.runDir,
    instance: paths.instance,
    cacheDir: layout.cacheDir,
    logger: createLogger({ level: 'silent' }),
  });
  try {
    const here = await driver.snapshotMachine();
    for (const { templateId, snapshot } of built) {
      const { manifest } = machineFiles(layout.templateSnapshotDir(templateId, snapshot ?? ''));
      const { machine, agentDiskHash, kernelVersion } = await readManifestFile(manifest);
      if (machine !== here || agentDiskHash !== images.agentDiskHash || kernelVersion !== images.kernelVersion)
        return true;
    }
    return false;
  } catch {
    // What is damaged is made anew; what cannot be found out is found out by trying.
    return true;
  } finally {
    await driver.close();
  }
}
