import { NestboxError } from '@nestbox/contract';
import type { Template } from '@nestbox/contract/host';
import type { HostLink } from '../hosts/host-link.ts';
import type { ServiceContext } from './service-context.ts';

/** A template and the connected hosts that have it. */
export interface CatalogEntry {
  readonly template: Template;
  readonly hosts: readonly HostLink[];
}

const SHOWN_NAME_LENGTH = 80;
const SHOWN_NAMES = 20;

/**
 * What the connected hosts have, by template id. A host that does not answer is left out. Throws `host_unavailable`
 * when none answers.
 */
export async function readCatalog(
  context: ServiceContext,
  signal?: AbortSignal,
): Promise<ReadonlyMap<string, CatalogEntry>> {
  const links = context.hosts.connected();
  const answers = await Promise.allSettled(links.map((link) => link.listTemplates(signal)));
  const entries = new Map<string, { template: Template; hosts: HostLink[] }>();
  for (const [index, answer] of answers.entries()) {
    const link = links[index];
    if (link === undefined) continue;
    if (answer.status === 'rejected') {
      if (links.length === 1) throw answer.reason;
      context.logger.warn({ err: answer.reason, hostId: link.id }, 'A host did not tell its templates');
      continue;
    }
    for (const template of answer.value) {
      const entry = entries.get(template.templateId);
      if (entry === undefined) entries.set(template.templateId, { template, hosts: [link] });
      else entry.hosts.push(link);
    }
  }
  if (answers.every((answer) => answer.status === 'rejected'))
    throw new NestboxError('host_unavailable', 'No host could tell its templates.');
  return entries;
}

/**
 * Finds a template by id or by name: case and surrounding blanks do not matter, the tag `default` may be named or not.
 * Throws `template_not_found`.
 */
export function findInCatalog(catalog: ReadonlyMap<string, CatalogEntry>, wanted: string): CatalogEntry {
  const name = normaliseName(wanted);
  const byId = catalog.get(name);
  if (byId !== undefined) return byId;
  for (const entry of catalog.values()) {
    if (entry.template.names.some((known) => normaliseName(known) === name)) return entry;
  }
  const known = [...catalog.values()].map(({ template }) => template.names[0] ?? template.templateId);
  const shown = known.length === 0 ? 'There is none yet' : `There are: ${known.slice(0, SHOWN_NAMES).join(', ')}`;
  throw new NestboxError(
    'template_not_found',
    `There is no template ${JSON.stringify(wanted.slice(0, SHOWN_NAME_LENGTH))}. ${shown}.`,
  );
}

function normaliseName(name: string): string {
  const lower = name.trim().toLowerCase();
  return lower.endsWith(':default') ? lower.slice(0, -':default'.length) : lower;
}
