import { NestboxError } from '@nestbox/contract';
import type { Template } from '@nestbox/contract/host';
import type { HostLink } from '../hosts/host-link.ts';
import { listSnapshotOwners } from '../store/snapshot-owner-repository.ts';
import type { TeamContext } from './team-context.ts';
import { DEFAULT_TAG, readTemplateName, type TemplateName } from './template-name.ts';

/** A template and the connected hosts that have it. */
export interface CatalogEntry {
  /** Of a host that has it whole, if there is one. */
  readonly template: Template;
  readonly hosts: readonly HostLink[];
  /** Of the hosts, those on which it is damaged. */
  readonly damagedOn: ReadonlySet<HostLink>;
  /** It is known as somebody's snapshot, whether or not its host can read that. */
  readonly isOwned: boolean;
  /** By host: ids under which it has VMs of the template waiting. */
  readonly warmIds: ReadonlyMap<string, readonly string[]>;
}

const SHOWN_NAME_LENGTH = 80;
const SHOWN_NAMES = 20;

/**
 * What the connected hosts have for this team, by template id: what set-up made, and the team's own snapshots. A host that
 * does not answer is left out. Throws `host_unavailable` when none answers.
 */
export async function readCatalog(
  context: TeamContext,
  signal?: AbortSignal,
): Promise<ReadonlyMap<string, CatalogEntry>> {
  const links = context.hosts.connected();
  // The owners are read last: a snapshot has its owner before its host has it.
  const answers = await Promise.allSettled(links.map((link) => link.listTemplates(signal)));
  const owners = await listSnapshotOwners(context.db);
  const isVisible = visibleTo(context, owners);
  const entries = new Map<string, ReturnType<typeof newEntry>>();
  for (const [index, answer] of answers.entries()) {
    const link = links[index];
    if (link === undefined) continue;
    if (answer.status === 'rejected') {
      if (links.length === 1) throw answer.reason;
      context.logger.warn({ err: answer.reason, hostId: link.id }, 'A host did not tell its templates');
      continue;
    }
    for (const template of answer.value.filter(isVisible)) {
      const entry = entries.get(template.templateId) ?? newEntry(template, owners.has(template.templateId));
      entries.set(template.templateId, entry);
      entry.hosts.push(link);
      if (template.damage !== '') entry.damagedOn.add(link);
      else entry.template = template;
      entry.warmIds.set(link.id, template.warmSandboxIds);
    }
  }
  if (answers.every((answer) => answer.status === 'rejected'))
    throw new NestboxError('host_unavailable', 'No host could tell its templates.');
  return entries;
}

/** A snapshot without an owner is from before there were teams, and the default team's. */
function visibleTo(
  { scope, defaultTeamId }: TeamContext,
  owners: ReadonlyMap<string, string>,
): (template: Template) => boolean {
  return ({ templateId, originSandboxId }) => {
    const owner = owners.get(templateId) ?? (originSandboxId === '' ? undefined : defaultTeamId);
    return owner === undefined || owner === scope.teamId;
  };
}

function newEntry(template: Template, isOwned: boolean) {
  return {
    template,
    isOwned,
    hosts: [] as HostLink[],
    damagedOn: new Set<HostLink>(),
    warmIds: new Map<string, readonly string[]>(),
  };
}

/**
 * Finds a template or snapshot by id or by name, either with or without a tag. Throws `template_not_found`.
 */
export function findInCatalog(catalog: ReadonlyMap<string, CatalogEntry>, wanted: string): CatalogEntry {
  const { base, tag } = readTemplateName(wanted);
  const byId = catalog.get(base);
  if (byId !== undefined && (tag === DEFAULT_TAG || namesOf(byId).some((known) => known.tag === tag))) return byId;
  for (const entry of catalog.values()) {
    if (namesOf(entry).some((known) => known.base === base && known.tag === tag)) return entry;
  }
  const known = [...catalog.values()]
    .filter(isToldByName)
    .map(({ template }) => template.names[0] ?? template.templateId);
  const shown = known.length === 0 ? 'There is none yet' : `There are: ${known.slice(0, SHOWN_NAMES).join(', ')}`;
  throw new NestboxError(
    'template_not_found',
    `There is no template ${JSON.stringify(wanted.slice(0, SHOWN_NAME_LENGTH))}. ${shown}.`,
  );
}

/** A snapshot is a template that was made of a sandbox; the others were made by set-up. */
export function isSnapshot({ template, isOwned }: CatalogEntry): boolean {
  return template.originSandboxId !== '' || isOwned;
}

export function namesOf({ template }: CatalogEntry): TemplateName[] {
  return template.names.map(readTemplateName);
}

/** Snapshots without a name are for those who know their id. */
function isToldByName(entry: CatalogEntry): boolean {
  return !isSnapshot(entry) || entry.template.names.length > 0;
}
