import { dirname } from 'node:path';
import type { NestboxPaths } from '@nestbox/kit';
import { checkSetup } from '../image/check-setup.ts';
import { pathExists } from '../image/path-exists.ts';
import { SETUP_STEPS, type SetupStep } from '../image/setup-types.ts';
import { freeBytes } from '../storage/disk-space.ts';
import { errnoOf } from '../storage/errno.ts';
import { hostLayout } from '../storage/layout.ts';
import { TemplateStore } from '../storage/template-store.ts';
import type { HostCheck } from './host-check.ts';

const WHY: Readonly<Record<Exclude<SetupStep, 'packages' | 'snapshots'>, string>> = {
  kernel: 'Every sandbox boots this Linux kernel.',
  initrd: 'It finds the disks and the network of a sandbox while it boots.',
  'agent-disk': 'The program inside each sandbox that runs commands and moves files is on it.',
  'base-template': 'A sandbox for which no template is named is made from it.',
};

/** A check for each image that set-up makes, and one for the snapshots. Without root they may be closed to us. */
export async function checkImages(paths: NestboxPaths, agentSources?: readonly string[]): Promise<HostCheck[]> {
  try {
    return await lookAtImages(paths, agentSources);
  } catch (error) {
    if (errnoOf(error) !== 'EACCES') throw error;
    return [
      {
        id: 'images',
        name: 'Images and templates',
        state: 'warning',
        found: `not looked at: what is in ${paths.stateDir} is open to root alone`,
        why: 'Sandboxes boot them, and are made from them.',
        mend: 'sudo npx nestbox doctor',
      },
    ];
  }
}

async function lookAtImages(paths: NestboxPaths, agentSources?: readonly string[]): Promise<HostCheck[]> {
  const { missing, images } = await checkSetup(paths, agentSources);
  const steps = ['kernel', 'initrd', 'agent-disk', 'base-template'] as const;
  const made = steps.map((step) => {
    const absent = missing.filter((part) => part.step === step).map(({ what }) => what);
    const there = step === 'kernel' && images !== undefined ? images.kernelVersion : 'made';
    return {
      id: `image-${step}`,
      name: SETUP_STEPS[step],
      state: absent.length === 0 ? 'ok' : 'failed',
      found: absent.length === 0 ? there : `missing: ${absent.join(', ')}`,
      why: WHY[step],
      mend: absent.length === 0 ? undefined : 'sudo npx nestbox setup',
    } as const;
  });
  return [...made, await checkSnapshots(paths)];
}

/** Sandboxes run without; they take seconds to boot then. */
async function checkSnapshots(paths: NestboxPaths): Promise<HostCheck> {
  const { templates } = await new TemplateStore(hostLayout(paths)).list();
  const without = templates.filter(({ snapshot }) => snapshot === undefined).map(({ names }) => names[0] ?? '?');
  const complete = templates.length > 0 && without.length === 0;
  return {
    id: 'image-snapshots',
    name: SETUP_STEPS.snapshots,
    state: complete ? 'ok' : 'warning',
    found: complete ? 'made' : without.length === 0 ? 'no template' : `missing: ${without.join(', ')}`,
    why: 'With one a sandbox is restored in a blink; without, it boots for seconds.',
    mend: complete ? undefined : 'sudo npx nestbox setup (a server makes them too, when it starts)',
  };
}

/** Room for what sandboxes write; each may write as much as its template's disk is large. */
const WANTED_FREE_BYTES = 5 * 2 ** 30;

export async function checkDisk(stateDir: string): Promise<HostCheck> {
  let folder = stateDir;
  while (!(await pathExists(folder)) && folder !== dirname(folder)) folder = dirname(folder);
  const free = await freeBytes(folder);
  const enough = free >= WANTED_FREE_BYTES;
  return {
    id: 'disk',
    name: 'Free disk space',
    state: enough ? 'ok' : 'warning',
    found: `${Math.floor(free / 2 ** 20)} MiB at ${folder}`,
    why: 'The images take about 1 GiB; what sandboxes write is kept beside them.',
    mend: enough
      ? undefined
      : `Free space until ${WANTED_FREE_BYTES / 2 ** 20} MiB are free, or set NESTBOX_DIR to another disk.`,
  };
}
