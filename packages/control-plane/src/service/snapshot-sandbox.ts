import { NestboxError, newTemplateId } from '@nestbox/contract';
import type { Template } from '@nestbox/contract/host';
import type { SnapshotInfo } from '@nestbox/contract/http';
import type { HostLink } from '../hosts/host-link.ts';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import { putSnapshotOwner } from '../store/snapshot-owner-repository.ts';
import { describeSnapshot } from './snapshot-info.ts';
import type { TeamContext } from './team-context.ts';
import { type CatalogEntry, isSnapshot, namesOf, readCatalog } from './template-catalog.ts';
import { fullName, parseSnapshotName, type TemplateName } from './template-name.ts';
import type { Timings } from './timings.ts';
import { requireAwake } from './when-stable.ts';

/**
 * Makes a template of a running sandbox, memory included; the sandbox goes on. A snapshot that has the name already is
 * replaced. Throws `invalid_request` for a name that is none, `conflict` for one that a template has, `sandbox_not_found`,
 * `sandbox_paused`, `sandbox_stopping`, and errors of the host.
 */
export async function snapshotSandbox(
  context: TeamContext,
  rawId: string,
  rawName: string | undefined,
  timings: Timings,
): Promise<SnapshotInfo> {
  const name = rawName === undefined ? undefined : parseSnapshotName(rawName);
  const record = await timings.measure('db', () => requireAwake(context, rawId));
  const host = context.hosts.get(record.hostId);
  host.requireConnected();
  const take = (templateId: string, names: string[]) => takeSnapshot(context, record, { templateId, names }, timings);
  const taking =
    name === undefined
      ? take(newTemplateId(), [])
      : context.turns.run(`snapshot-name/${context.scope.teamId}/${fullName(name)}`, async () => {
          const catalog = await timings.measure('templates', () => readCatalog(context));
          const holders = holdersOf(catalog, name);
          const here = holders.find(({ hosts }) => hosts.includes(host));
          const template = await take(here?.template.templateId ?? newTemplateId(), [fullName(name)]);
          await dropReplaced(context, holders, template, host);
          return template;
        });
  return describeSnapshot(await context.tasks.track(taking));
}

/** The snapshots that have the name. Throws `conflict` when it is the name of a template, or could be taken for an id. */
function holdersOf(catalog: ReadonlyMap<string, CatalogEntry>, name: TemplateName): CatalogEntry[] {
  const holders: CatalogEntry[] = [];
  for (const entry of catalog.values()) {
    const names = namesOf(entry).filter(({ base }) => base === name.base);
    if (entry.template.templateId === name.base || (names.length > 0 && !isSnapshot(entry)))
      throw new NestboxError('conflict', `The name "${name.base}" belongs to a template: choose another one.`);
    if (names.some(({ tag }) => tag === name.tag)) holders.push(entry);
  }
  return holders;
}

async function takeSnapshot(
  context: TeamContext,
  { id: sandboxId, hostId }: SandboxRecord,
  { templateId, names }: { templateId: string; names: string[] },
  timings: Timings,
): Promise<Template> {
  const host = context.hosts.get(hostId);
  // First its owner: nobody else may see it, not even for a moment.
  await timings.measure('db', () => putSnapshotOwner(context.db, context.scope, templateId, context.clock.now()));
  const { template, stages } = await timings.measure('host', () =>
    host.snapshotSandbox({ sandboxId, templateId, names }),
  );
  timings.add(stages);
  context.logger.info({ sandboxId, hostId, templateId, names }, 'A snapshot was made');
  return template;
}

/** A name is of one snapshot alone: those that had it, on other hosts for example, go. */
async function dropReplaced(
  context: TeamContext,
  holders: readonly CatalogEntry[],
  { templateId }: Template,
  host: HostLink,
): Promise<void> {
  for (const holder of holders) {
    for (const link of holder.hosts) {
      if (link === host && holder.template.templateId === templateId) continue;
      try {
        await link.deleteTemplate(holder.template.templateId);
      } catch (error) {
        context.logger.warn({ err: error, hostId: link.id, templateId }, 'A replaced snapshot could not be deleted');
      }
    }
  }
}
