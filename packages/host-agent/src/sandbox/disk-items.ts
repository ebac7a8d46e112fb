import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type DiskItem, folderUsage } from '../storage/disk-usage.ts';
import { errnoOf } from '../storage/errno.ts';
import type { Template } from '../storage/template-store.ts';
import type { SandboxInfo } from './sandbox.ts';
import type { SandboxContext } from './sandbox-context.ts';

/** What uses how much of the disk: every sandbox, template, snapshot and image of this host, in no order. */
export async function diskUsageOf(
  { layout, templates }: Pick<SandboxContext, 'layout' | 'templates'>,
  sandboxes: readonly SandboxInfo[],
  damageOf: (template: Template) => string | undefined,
): Promise<DiskItem[]> {
  const present = new Map(sandboxes.map((sandbox) => [sandbox.sandboxId, sandbox]));
  const { templates: known, damaged } = await templates.list();
  const named = [
    ...known.map((template) => ({ ...template, name: template.names[0] ?? '', damage: damageOf(template) })),
    ...damaged.map(({ templateId, reason }) => ({
      templateId,
      name: 'damaged',
      originSandboxId: undefined,
      damage: reason,
    })),
  ];
  const [sandboxIds, kernels] = await Promise.all([namesIn(layout.sandboxesDir), namesIn(layout.kernelsDir)]);
  return Promise.all([
    ...sandboxIds.map(async (id): Promise<DiskItem> => {
      const sandbox = present.get(id);
      // What is there and no sandbox waits for one.
      const kind = sandbox === undefined ? 'warm' : 'sandbox';
      const usage = await folderUsage(layout.sandboxDir(id));
      return { kind, id, name: sandbox?.state ?? '', damage: sandbox?.damage, ...usage };
    }),
    ...named.map(async ({ templateId, name, originSandboxId, damage }): Promise<DiskItem> => {
      const kind = originSandboxId === undefined ? 'template' : 'snapshot';
      return { kind, id: templateId, name, damage, ...(await folderUsage(layout.templateDir(templateId))) };
    }),
    ...kernels.map(
      async (id): Promise<DiskItem> => ({
        kind: 'image',
        id,
        name: 'kernel',
        damage: undefined,
        ...(await folderUsage(join(layout.kernelsDir, id))),
      }),
    ),
    (async (): Promise<DiskItem> => ({
      kind: 'image',
      id: 'agent',
      name: 'agent disks',
      damage: undefined,
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
