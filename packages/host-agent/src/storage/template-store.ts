import { access, constants, readFile } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { errnoOf } from './errno.ts';
import { type TemplateFile, templateFile } from './images-file.ts';
import type { HostLayout } from './layout.ts';
import { parseJson } from './parse-json.ts';
import { brokenSeal } from './sealed-json.ts';
import { subfolders } from './subfolders.ts';

export interface Template extends TemplateFile {
  /** Raw disk that every sandbox of this template has below its own; never written to. */
  readonly rootfsPath: string;
}

export interface DamagedTemplate {
  readonly templateId: string;
  /** In plain words. */
  readonly reason: string;
  /** What it says, which need not be so. Undefined: it cannot be read. */
  readonly file: TemplateFile | undefined;
}

export interface TemplateList {
  /** Newest first. */
  readonly templates: readonly Template[];
  /** Folders with a template.json that cannot be used. A folder without one is being made and is not in either list. */
  readonly damaged: readonly DamagedTemplate[];
}

/** The templates of this host. Reads the folder each time: set-up is another process. */
export class TemplateStore {
  readonly #layout: HostLayout;

  constructor(layout: HostLayout) {
    this.#layout = layout;
  }

  async list(): Promise<TemplateList> {
    const ids = await subfolders(this.#layout.templatesDir);
    const found = (await Promise.all(ids.map((id) => this.#read(id)))).filter((entry) => entry !== undefined);
    return {
      templates: found
        .filter((entry) => 'rootfsPath' in entry)
        .sort((a, b) => b.createdAtMs - a.createdAtMs || a.templateId.localeCompare(b.templateId)),
      damaged: found.filter((entry) => 'reason' in entry),
    };
  }

  /**
   * By id, else by name; of several with one name the newest. Throws NestboxError template_not_found, and snapshot_damaged
   * when the one that was asked for is damaged.
   */
  async get(idOrName: string): Promise<Template> {
    const { templates, damaged } = await this.list();
    const template =
      templates.find(({ templateId }) => templateId === idOrName) ??
      templates.find(({ names }) => names.includes(idOrName));
    if (template !== undefined) return template;
    const broken =
      damaged.find(({ templateId }) => templateId === idOrName) ??
      damaged.find(({ file }) => file?.names.includes(idOrName));
    if (broken !== undefined)
      throw new NestboxError(
        'snapshot_damaged',
        `The template ${idOrName} is damaged: ${broken.reason}. Delete it, and make it again.`,
      );
    throw new NestboxError('template_not_found', `There is no template "${idOrName}" on this host.`);
  }

  async #read(templateId: string): Promise<Template | DamagedTemplate | undefined> {
    let text: string;
    try {
      text = await readFile(this.#layout.templateFile(templateId), 'utf8');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      return {
        templateId,
        reason: `template.json cannot be read: ${errnoOf(error) ?? 'unknown error'}`,
        file: undefined,
      };
    }
    const parsed = parseJson(text, templateFile);
    if (!parsed.ok) return { templateId, reason: `template.json: ${parsed.reason}`, file: undefined };
    if (parsed.value.templateId !== templateId)
      return {
        templateId,
        reason: `template.json belongs to another template, ${parsed.value.templateId}`,
        file: undefined,
      };
    const broken = brokenSeal(text);
    if (broken !== undefined) return { templateId, reason: `template.json: ${broken}`, file: parsed.value };
    const rootfsPath = this.#layout.templateRootfs(templateId);
    try {
      await access(rootfsPath, constants.R_OK);
    } catch {
      return { templateId, reason: 'rootfs.ext4 is missing or cannot be read', file: parsed.value };
    }
    return { ...parsed.value, rootfsPath };
  }
}
