import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type DiskItem, folderUsage } from '../storage/disk-usage.ts';
import { errnoOf } from '../storage/errno.ts';
import type { SandboxInfo } from './sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';

/** What uses how much of the disk: every sandbox, template, snapshot and image of this host, in no order. */
export async function diskUsageOf(
  { layout, templates }: Pick<SandboxContext, 'layout' | 'templates'>,
  sandboxes: readonly SandboxInfo[],
): Promise<DiskItem[]> {
  const states = new Map(sandboxes.map(({ sandboxId, state }) => [sandboxId, state]));
  const { templates: known, damaged } = await templates.list();
  const named = [
    ...known.map(({ templateId, names, originSandboxId }) => ({ templateId, name: names[0] ?? '', originSandboxId })),
    ...damaged.map(({ templateId }) => ({ templateId, name: 'damaged', originSandboxId: undefined })),
  ];
  const [sandboxIds, kernels] = await Promise.all([namesIn(layout.sandboxesDir), namesIn(layout.kernelsDir)]);
  return Promise.all([
    ...sandboxIds.map(async (id): Promise<DiskItem> => {
      const state = states.get(id);
      // What is there and no sandbox waits for one.
      const kind = state === undefined ? 'warm' : 'sandbox';
      return { kind, id, name: state ?? '', ...(await folderUsage(layout.sandboxDir(id))) };
    }),
    ...named.map(async ({ templateId, name, originSandboxId }): Promise<DiskItem> => {
      const kind = originSandboxId === undefined ? 'template' : 'snapshot';
      return { kind, id: templateId, name, ...(await folderUsage(layout.templateDir(templateId))) };
    }),
    ...kernels.map(
      async (id): Promise<DiskItem> => ({
        kind: 'image',
        id,
        name: 'kernel',
        ...(await folderUsage(join(layout.kernelsDir, id))),
      }),
    ),
    (async (): Promise<DiskItem> => ({
      kind: 'image',
      id: 'agent',
      name: 'agent disks',
      ...(await folderUsage(layout.agentDir)),
    }))(),
  ]);
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}
