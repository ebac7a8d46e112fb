import { NestboxError } from '@nestbox/contract';
import { allSettled } from '../all-settled.ts';
import { createBlankImage } from '../memory/memory-image.ts';
import type { CurrentImages } from '../storage/images-file.ts';
import { linkFile, linkMachine, machineFiles } from '../storage/machine-folder.ts';
import type { Template } from '../storage/template-store.ts';
import type { DiskSource } from './root-disks.ts';
import type { SandboxContext } from './sandbox-context.ts';
import type { StartKind } from './start-machine.ts';

/** What a new sandbox's machine is made of. */
export interface CreatePlan {
  readonly how: StartKind;
  /** What the sandbox's disk is made of. */
  readonly disk: DiskSource;
  /** Puts everything but the disk into the sandbox's folder. */
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

/** `isSpare`: one sandbox is made of it, and then it goes. */
export function restorePlan(saved: SavedMachine, { isSpare } = { isSpare: false }): CreatePlan {
  const { folder, layers, hasPages, kernelVersion, agentDiskHash } = saved;
  const files = machineFiles(folder);
  const state = { devicesPath: files.devices, pagesPath: hasPages ? files.pages : undefined };
  return {
    how: { kind: 'restore', state, kernelVersion, agentDiskHash },
    disk: { folder, layers, bottomPath: files.rootfs, isSpare },
    fillFolder: (target) => linkMachine(folder, target),
  };
}

/** Boots from a template's disk. */
export function bootPlan({ memoryMib }: Template, images: CurrentImages, disk: DiskSource): CreatePlan {
  return {
    how: { kind: 'boot', images },
    disk,
    async fillFolder(target) {
      const to = machineFiles(target);
      await allSettled([
        linkFile(images.agentDiskPath, to.agentDisk),
        createBlankImage(to.memory, memoryMib * 2 ** 20),
      ]);
    },
  };
}

/** The disk of a template that was built. */
export function builtDisk(
  { layout }: Pick<SandboxContext, 'layout'>,
  { templateId, rootfsPath }: Template,
): DiskSource {
  return { folder: layout.templateDir(templateId), layers: [], bottomPath: rootfsPath };
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
