import { NestboxError } from '@nestbox/contract';
import { createBlankImage } from '../memory/memory-image.ts';
import type { CurrentImages } from '../storage/images-file.ts';
import { linkFile, linkMachine, machineFiles } from '../storage/machine-folder.ts';
import type { Template } from '../storage/template-store.ts';
import { allSettled } from './all-settled.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { StartKind } from './start-machine.ts';

/** What a new sandbox's machine is made of. */
export interface CreatePlan {
  readonly how: StartKind;
  /** Layers below the sandbox's own, top first. */
  readonly lowerLayers: readonly string[];
  /** Puts everything but the new top layer into the sandbox's folder. */
  fillFolder(folder: string): Promise<void>;
}

/** A machine folder with a state: a template's snapshot, or a fork on its way. */
export interface SavedMachine {
  readonly folder: string;
  readonly layers: readonly string[];
  readonly hasPages: boolean;
  readonly kernelVersion: string;
  readonly agentDiskHash: string;
}

export function restorePlan(saved: SavedMachine): CreatePlan {
  const { folder, layers, hasPages, kernelVersion, agentDiskHash } = saved;
  const files = machineFiles(folder);
  const state = { devicesPath: files.devices, pagesPath: hasPages ? files.pages : undefined };
  return {
    how: { kind: 'restore', state, kernelVersion, agentDiskHash },
    lowerLayers: layers,
    fillFolder: (target) => linkMachine({ folder, layers, memory: true }, target),
  };
}

/** Boots from a template's disk; of a snapshot that is the disk as it was then. */
export function bootPlan(
  context: Pick<SandboxContext, 'layout'>,
  template: Template,
  images: CurrentImages,
  lowerLayers: readonly string[],
): CreatePlan {
  return {
    how: { kind: 'boot', images },
    lowerLayers,
    async fillFolder(target) {
      const to = machineFiles(target);
      const from = machineFiles(snapshotFolder(context, template) ?? '');
      await allSettled([
        linkFile(lowerLayers.length === 0 ? template.rootfsPath : from.rootfs, to.rootfs),
        linkFile(images.agentDiskPath, to.agentDisk),
        createBlankImage(to.memory, template.memoryMib * 2 ** 20),
        ...lowerLayers.map((name) => linkFile(from.layer(name), to.layer(name))),
      ]);
    },
  };
}

export function snapshotFolder({ layout }: Pick<SandboxContext, 'layout'>, template: Template): string | undefined {
  return template.snapshot === undefined
    ? undefined
    : layout.templateSnapshotDir(template.templateId, template.snapshot);
}

/** For messages: what a state was saved on, and what is here. */
export function incompatible(what: string, saved: string, here: string): NestboxError {
  return new NestboxError(
    'snapshot_incompatible',
    `The memory of ${what} was saved on "${saved}"; this host is "${here}", where it cannot be restored.`,
  );
}
