import { chmod, mkdir, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { NestboxError } from '@nestbox/contract';
import { syncFile, writeFileAtomic } from '@nestbox/kit';
import { z } from 'zod';
import { type TemplateFile, templateFile } from '../storage/images-file.ts';
import type { HostLayout } from '../storage/layout.ts';
import { makePrivateFolder } from '../storage/private-folder.ts';
import { makeExt4 } from './ext4.ts';
import { pathExists } from './path-exists.ts';

export type TemplateSpec = Omit<TemplateFile, 'createdAtMs'>;

export interface MakeTemplateOptions {
  readonly layout: HostLayout;
  readonly spec: TemplateSpec;
  /** Folder that becomes the root disk; owners, modes and links are kept, so root calls this for a real system. */
  readonly tree: string;
  /** Existing folder on the state folder's file system, in which the template is built. The caller removes it. */
  readonly workDir: string;
  /** Replaces a template that is there. Sandboxes of it keep its disk by links of their own. */
  readonly replace?: boolean;
  readonly signal?: AbortSignal;
}

/**
 * Makes a template from a folder: `rootfs.ext4` (sparse, read-only) and, last, `template.json`, in a folder beside that
 * is then renamed into place; so a template is there complete or not at all. Nothing is left on failure.
 * Throws conflict (it exists), host_disk_full, invalid_request (the spec).
 */
export async function makeTemplate(options: MakeTemplateOptions): Promise<TemplateFile> {
  const { layout, tree, workDir, replace = false, signal } = options;
  const parsed = templateFile.safeParse({ ...options.spec, createdAtMs: Date.now() });
  if (!parsed.success)
    throw new NestboxError('invalid_request', `This is no valid template: ${z.prettifyError(parsed.error)}`);
  const template = parsed.data;
  const target = layout.templateDir(template.templateId);
  if (!replace && (await pathExists(target)))
    throw new NestboxError('conflict', `The template ${template.templateId} exists already.`);

  await using undo = new AsyncDisposableStack();
  const folder = join(workDir, `template-${template.templateId}`);
  await mkdir(folder, { mode: 0o755 });
  undo.defer(() => rm(folder, { recursive: true, force: true }));
  const rootfs = join(folder, basename(layout.templateRootfs(template.templateId)));
  await makeExt4({
    path: rootfs,
    tree,
    sizeBytes: template.diskMib * 2 ** 20,
    label: 'nestbox-root',
    journal: true,
    ...(signal && { signal }),
  });
  // Overlays of sandboxes refer to it from now on: it must never change.
  await chmod(rootfs, 0o444);
  await syncFile(rootfs);
  await writeFileAtomic(
    join(folder, basename(layout.templateFile(template.templateId))),
    `${JSON.stringify(template, undefined, 2)}\n`,
    0o644,
  );
  await makePrivateFolder(layout.templatesDir);
  if (replace && (await pathExists(target))) {
    const replaced = `${folder}.replaced`;
    await rename(target, replaced);
    undo.defer(() => rm(replaced, { recursive: true, force: true }));
  }
  await rename(folder, target);
  await syncFile(layout.templatesDir);
  return template;
}
