import { NestboxError } from '@nestbox/contract';
import { forgetSnapshotOwner } from '../store/snapshot-owner-repository.ts';
import { forgetUsage } from '../store/template-usage-repository.ts';
import { hostsAway } from './hosts-away.ts';
import type { TeamContext } from './team-context.ts';
import { type CatalogEntry, findInCatalog, isSnapshot, readCatalog } from './template-catalog.ts';

/**
 * Deletes a snapshot, wherever it is, and a template where it is damaged; sandboxes that came from it go on. Throws `template_not_found`,
 * `conflict` for a template that set-up made and that is whole, and `forbidden` for a damaged one when another than the first team asks.
 */
export async function deleteTemplate(context: TeamContext, wanted: string): Promise<void> {
  const entry = findInCatalog(await readCatalog(context), wanted);
  const { templateId } = entry.template;
  const shown = JSON.stringify(entry.template.names[0] ?? templateId);
  if (!isSnapshot(entry)) requireDamaged(context, entry, shown);
  const hosts = isSnapshot(entry) ? entry.hosts : [...entry.damagedOn];
  const deleted = await Promise.all(hosts.map((host) => host.deleteTemplate(templateId)));
  await forgetUsage(context.db, templateId);
  // A host that is not there now may have it too: then it stays its owner's.
  if ((await hostsAway(context)).length === 0) await forgetSnapshotOwner(context.db, templateId);
  if (!deleted.includes(true))
    throw new NestboxError('template_not_found', 'The snapshot or template was just deleted.');
  context.logger.info({ templateId }, 'A snapshot or template was deleted');
}

/** Templates are for every team. */
function requireDamaged({ scope, defaultTeamId }: TeamContext, { damagedOn }: CatalogEntry, shown: string): void {
  if (damagedOn.size === 0)
    throw new NestboxError('conflict', `${shown} is no snapshot: it is made by set-up, and cannot be deleted.`);
  if (scope.teamId !== defaultTeamId)
    throw new NestboxError('forbidden', `${shown} is every team's template; only the first team may delete it.`);
}
