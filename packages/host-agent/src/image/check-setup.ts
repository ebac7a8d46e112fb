import type { NestboxPaths } from '@nestbox/kit';
import type { CurrentImages } from '../storage/images-file.ts';
import { hostLayout } from '../storage/layout.ts';
import { agentDiskFingerprint } from './agent-disk.ts';
import { BASE_TEMPLATE_ID } from './base-template.ts';
import { hasTemplate } from './has-template.ts';
import { missingPackages } from './host-packages.ts';
import { nodeBinary } from './node-binary.ts';
import { pathExists } from './path-exists.ts';
import { readCurrentImages, readSetupRecord } from './setup-record.ts';
import type { MissingPart } from './setup-types.ts';

export interface SetupCheck {
  /** Nothing is missing: sandboxes can be made. */
  readonly complete: boolean;
  readonly missing: readonly MissingPart[];
  /** What new VMs boot; undefined while one of these files is missing. */
  readonly images: CurrentImages | undefined;
}

/**
 * Says in some milliseconds what `setUp` would have to make. With `agentSources`, an agent disk made from other sources
 * than these counts as missing; without, any agent disk will do. Needs no root, changes nothing.
 */
export async function checkSetup(paths: NestboxPaths, agentSources?: readonly string[]): Promise<SetupCheck> {
  const layout = hostLayout(paths);
  const missing: MissingPart[] = [];
  for (const { name, missing: programs } of (await missingPackages()).filter(({ use }) => use === 'run'))
    missing.push({ step: 'packages', what: `${programs.join(', ')} (Debian package ${name})` });

  const images = await readCurrentImages(layout);
  const files = [
    { step: 'kernel', path: images?.kernelPath, what: 'the guest kernel' },
    { step: 'initrd', path: images?.initrdPath, what: 'the initial RAM disk' },
    { step: 'agent-disk', path: images?.agentDiskPath, what: 'the guest agent disk' },
  ] as const;
  const absent: MissingPart[] = [];
  for (const { step, path, what } of files)
    if (path === undefined || !(await pathExists(path))) absent.push({ step, what });
  missing.push(...absent);

  if (agentSources !== undefined && images !== undefined && !absent.some(({ step }) => step === 'agent-disk')) {
    const record = await readSetupRecord(layout);
    const wanted = await agentDiskFingerprint(agentSources, nodeBinary(), images.kernelVersion);
    if (record?.agentDiskHash !== images.agentDiskHash || record.agentFingerprint !== wanted)
      missing.push({ step: 'agent-disk', what: 'a guest agent disk of the current sources' });
  }
  if (!(await hasTemplate(layout, BASE_TEMPLATE_ID)))
    missing.push({ step: 'base-template', what: 'the template base' });
  return { complete: missing.length === 0, missing, images: absent.length === 0 ? images : undefined };
}
