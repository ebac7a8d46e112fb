import { createHash } from 'node:crypto';
import { NestboxError } from '@nestbox/contract';
import type { Template as HostTemplate } from '@nestbox/contract/host';
import type { Template } from '@nestbox/contract/http';
import { listTemplateUsage, type TemplateUsage } from '../store/template-usage-repository.ts';
import type { TeamContext } from './team-context.ts';
import { findInCatalog, isSnapshot, readCatalog } from './template-catalog.ts';

/** What the connected hosts have, without snapshots, in the order of ids. Throws `host_unavailable`. */
export async function listTemplates(context: TeamContext, signal?: AbortSignal): Promise<Template[]> {
  const [catalog, usage] = await Promise.all([
    readCatalog(context, signal),
    listTemplateUsage(context.db, context.scope),
  ]);
  return [...catalog.values()]
    .filter((entry) => !isSnapshot(entry))
    .map(({ template }) => toTemplate(template, usage.get(template.templateId)))
    .sort((a, b) => (a.templateID < b.templateID ? -1 : 1));
}

export interface TemplatePage {
  readonly templates: readonly Template[];
  /** Undefined on the last page. */
  readonly nextToken: string | undefined;
}

/** One page, in the order of ids; the token is the last id of the page before. */
export async function pageTemplates(
  context: TeamContext,
  { nextToken, limit }: { nextToken?: string | undefined; limit: number },
  signal?: AbortSignal,
): Promise<TemplatePage> {
  const all = await listTemplates(context, signal);
  const rest = nextToken === undefined ? all : all.filter(({ templateID }) => templateID > nextToken);
  const templates = rest.slice(0, limit);
  return { templates, nextToken: rest.length > limit ? templates.at(-1)?.templateID : undefined };
}

/** The id of the template or snapshot with this name. Throws `template_not_found`. */
export async function resolveTemplateAlias(context: TeamContext, alias: string, signal?: AbortSignal): Promise<string> {
  if (alias === '') throw new NestboxError('invalid_request', 'The template name must not be empty.');
  return findInCatalog(await readCatalog(context, signal), alias).template.templateId;
}

function toTemplate(template: HostTemplate, usage: TemplateUsage | undefined): Template {
  const createdAt = new Date(Number(template.createdAtMs)).toISOString();
  return {
    templateID: template.templateId,
    buildID: derivedBuildId(template),
    cpuCount: template.vcpuCount,
    memoryMB: template.memoryMib,
    diskSizeMB: template.diskMib,
    public: false,
    aliases: [...template.names],
    names: [...template.names],
    createdAt,
    updatedAt: createdAt,
    createdBy: null,
    lastSpawnedAt: usage === undefined ? null : new Date(usage.lastSpawnedAtMs).toISOString(),
    spawnCount: usage?.spawnCount ?? 0,
    buildCount: 1,
    envdVersion: template.envdVersion,
    ...(template.damage === '' ? { buildStatus: 'ready' } : { buildStatus: 'error', damage: template.damage }),
  };
}

/**
 * Clients expect a UUID for the build that a template comes from. Hosts keep the newest build alone, so it is derived
 * from what changes with a build. Version 8 of RFC 9562: a UUID of one's own making.
 */
function derivedBuildId(template: HostTemplate): string {
  const hex = createHash('sha256').update(`${template.templateId}:${template.createdAtMs}`).digest('hex');
  const variant = ((Number.parseInt(hex.slice(16, 18), 16) & 0x3f) | 0x80).toString(16);
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `8${hex.slice(13, 16)}`,
    variant + hex.slice(18, 20),
    hex.slice(20, 32),
  ].join('-');
}
