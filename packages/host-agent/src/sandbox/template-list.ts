import { rm } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import type { TemplateFile } from '../storage/images-file.ts';
import type { HostState } from './host-state.ts';
import { templateKey } from './snapshot-sandbox.ts';

/** A template or snapshot of this host, also one that is damaged. */
export interface ListedTemplate
  extends Pick<
    TemplateFile,
    'templateId' | 'names' | 'vcpuCount' | 'memoryMib' | 'diskMib' | 'createdAtMs' | 'snapshot' | 'originSandboxId'
  > {
  /** What is known to be damaged of it, in plain words. */
  readonly damage: string | undefined;
}

/** What is known of one whose template.json cannot be read. */
const UNKNOWN = { names: [], vcpuCount: 0, memoryMib: 0, diskMib: 0, createdAtMs: 0 };

/** Newest first, those of which little is known last. What is damaged is logged once. */
export async function listTemplates({ context, snapshots }: HostState): Promise<ListedTemplate[]> {
  const { templates, damaged } = await context.templates.list();
  for (const { templateId, file, reason } of damaged) snapshots.noteDamage({ ...UNKNOWN, templateId, ...file }, reason);
  return [
    ...templates.map((template) => ({ ...template, damage: snapshots.damageOf(template) })),
    ...damaged.map(({ templateId, file, reason }) => ({ ...UNKNOWN, templateId, ...file, damage: reason })),
  ];
}

/**
 * Deletes a snapshot, or whatever is damaged; of several with one name the newest. Sandboxes that came from it go on. False when there is
 * none. Throws `conflict` for a template that was built and is whole.
 */
export async function deleteTemplate(host: HostState, idOrName: string): Promise<boolean> {
  const { context, serial, warm } = host;
  const listed = await listTemplates(host);
  const found =
    listed.find(({ templateId }) => templateId === idOrName) ?? listed.find(({ names }) => names.includes(idOrName));
  if (found === undefined) return false;
  const { templateId, originSandboxId, damage } = found;
  if (originSandboxId === undefined && damage === undefined)
    throw new NestboxError(
      'conflict',
      `The template ${templateId} was built by set-up; only snapshots, and what is damaged, are deleted.`,
    );
  const { layout, logger } = context;
  await serial.run(templateKey(templateId), async () => {
    // Without it the rest is no template any more; a crash in between leaves what the next start removes.
    await rm(layout.templateFile(templateId), { recursive: true, force: true });
    await rm(layout.templateDir(templateId), { recursive: true, force: true });
  });
  await warm.endOf(templateId);
  logger.info({ templateId, damage }, 'a template or snapshot was deleted');
  return true;
}
