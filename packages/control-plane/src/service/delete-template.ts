import { NestboxError } from '@nestbox/contract';
import { forgetSnapshotOwner } from '../store/snapshot-owner-repository.ts';
import { forgetUsage } from '../store/template-usage-repository.ts';
import type { TeamContext } from './team-context.ts';
import { findInCatalog, isSnapshot, readCatalog } from './template-catalog.ts';

/**
 * Deletes a snapshot, wherever it is; sandboxes that came from it go on. Throws `template_not_found`, and `conflict` for a
 * template that set-up made.
 */
export async function deleteTemplate(context: TeamContext, wanted: string): Promise<void> {
  const entry = findInCatalog(await readCatalog(context), wanted);
  const { templateId } = entry.template;
  if (!isSnapshot(entry))
    throw new NestboxError(
      'conflict',
      `"${entry.template.names[0] ?? templateId}" is no snapshot: it is made by set-up, and cannot be deleted.`,
    );
  const deleted = await Promise.all(entry.hosts.map((host) => host.deleteTemplate(templateId)));
  await forgetUsage(context.db, templateId);
  // A host that is not there now may have it too: then it stays its owner's.
  if ([...context.hosts].every(({ state }) => state.kind === 'connected'))
    await forgetSnapshotOwner(context.db, templateId);
  if (!deleted.includes(true)) throw new NestboxError('template_not_found', 'The snapshot was just deleted.');
  context.logger.info({ templateId }, 'A snapshot was deleted');
}
