import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFile, writeFileAtomic } from '@nestbox/kit';
import { allSettled } from '../all-settled.ts';
import type { TemplateFile } from '../storage/images-file.ts';
import { linkFile, linkMachine, machineFiles } from '../storage/machine-folder.ts';
import { sealJson } from '../storage/sealed-json.ts';
import { type SnapshotManifest, sealDisk, writeManifest } from '../storage/snapshot-manifest.ts';
import type { Template } from '../storage/template-store.ts';
import type { SavedMachine } from './create-plan.ts';
import { foldPagesIntoImage } from './fold-pages.ts';
import type { SandboxContext } from './sandbox-context.ts';

/** What the manifest of a template's snapshot says besides what is found out here. */
export type SnapshotFacts = Pick<
  SnapshotManifest,
  'machine' | 'kernelVersion' | 'agentDiskHash' | 'envdVersion' | 'vcpuCount' | 'memoryMib' | 'diskMib'
>;

/**
 * Makes a template's snapshot of a saved machine: its pages are folded into the memory image, so that every sandbox starts by
 * mapping one file. Built beside, synced, renamed; template.json, which names it, is replaced last. Sandboxes of the
 * snapshot before keep theirs.
 */
export async function installSnapshot(
  context: SandboxContext,
  template: Omit<TemplateFile, 'snapshot'>,
  saved: SavedMachine,
  facts: SnapshotFacts,
): Promise<Template> {
  const { layout } = context;
  const { templateId } = template;
  const name = `snapshot-${randomBytes(4).toString('hex')}`;
  const draft = join(layout.transitDir, name);
  await using undo = new AsyncDisposableStack();
  await mkdir(draft, { recursive: true, mode: 0o755 });
  undo.defer(() => rm(draft, { recursive: true, force: true }));
  await buildSnapshot(context, draft, saved, facts);

  const folder = layout.templateSnapshotDir(templateId, name);
  if ((await mkdir(layout.templateDir(templateId), { recursive: true, mode: 0o755 })) !== undefined)
    undo.defer(() => rm(layout.templateDir(templateId), { recursive: true, force: true }));
  await rename(draft, folder);
  undo.defer(() => rm(folder, { recursive: true, force: true }));
  // One that was built stays as it was built.
  if (template.originSandboxId !== undefined)
    await replaceByLink(context.disks.bottomPath(folder, saved.layers), layout.templateRootfs(templateId));
  await syncFile(layout.templateDir(templateId));
  const file: TemplateFile = { ...template, snapshot: name };
  // One that was built is made again where it is damaged; people may write into it.
  const text = template.originSandboxId === undefined ? `${JSON.stringify(file, undefined, 2)}\n` : sealJson(file);
  await writeFileAtomic(layout.templateFile(templateId), text, 0o644);
  undo.move();
  await removeOtherSnapshots(layout.templateDir(templateId), name);
  return { ...file, rootfsPath: layout.templateRootfs(templateId) };
}

/** The disk of a snapshot that takes the place of another may be on another raw one. */
async function replaceByLink(from: string, to: string): Promise<void> {
  const beside = `${to}.new`;
  await rm(beside, { force: true });
  await linkFile(from, beside);
  await rename(beside, to);
  // Renaming one link of a file to another of the same does nothing. Source: rename(2).
  await rm(beside, { force: true });
}

/** Snapshots that template.json does not name: earlier ones, and those that did not come to their end. */
export async function removeOtherSnapshots(templateDir: string, current: string | undefined): Promise<void> {
  for (const name of await readdir(templateDir))
    if (name.startsWith('snapshot-') && name !== current)
      await rm(join(templateDir, name), { recursive: true, force: true });
}

async function buildSnapshot(
  { disks }: SandboxContext,
  draft: string,
  saved: SavedMachine,
  facts: SnapshotFacts,
): Promise<void> {
  const from = machineFiles(saved.folder);
  const files = machineFiles(draft);
  await allSettled([linkMachine(saved.folder, draft), disks.link(saved.folder, saved.layers, draft)]);
  await linkFile(from.devices, files.devices);
  if (saved.hasPages) {
    await linkFile(from.pages, files.pages);
    await foldPagesIntoImage(draft);
  }
  await allSettled([files.memory, files.memoryMap, files.devices, files.layer(saved.layers[0] ?? '')].map(syncFile));
  const disk = await sealDisk(draft, saved.layers);
  await writeManifest(draft, { ...facts, createdAtMs: Date.now(), hasPages: false, disk });
  await syncFile(draft);
}
