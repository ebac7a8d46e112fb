import { accessSync, constants, readFileSync, statSync } from 'node:fs';
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

/** What a template.json says, and which file said so: one that was replaced or written to has another mark. */
interface KnownFile {
  readonly mark: string;
  readonly content: FileContent;
}

type FileContent = { readonly file: TemplateFile } | DamagedTemplate;

/** The templates of this host. Looks at the folder each time, since set-up is another process, and reads files that are new. */
export class TemplateStore {
  readonly #layout: HostLayout;
  #known: ReadonlyMap<string, KnownFile> = new Map();

  constructor(layout: HostLayout) {
    this.#layout = layout;
  }

  async list(): Promise<TemplateList> {
    const ids = await subfolders(this.#layout.templatesDir);
    const known = ids.flatMap((id) => this.#look(id) ?? []);
    this.#known = new Map(known.map((entry) => [entry.templateId, entry]));
    const found = known.map(({ templateId, content }) => this.#withDisk(templateId, content));
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

  /** Undefined: the folder has no template.json, so it is being made. */
  #look(templateId: string): (KnownFile & { readonly templateId: string }) | undefined {
    const path = this.#layout.templateFile(templateId);
    try {
      const { ino, size, mtimeMs, ctimeMs } = statSync(path);
      const mark = `${ino} ${size} ${mtimeMs} ${ctimeMs}`;
      const known = this.#known.get(templateId);
      const content = known?.mark === mark ? known.content : parseTemplate(templateId, readFileSync(path, 'utf8'));
      return { templateId, mark, content };
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      const reason = `template.json cannot be read: ${errnoOf(error) ?? 'unknown error'}`;
      return { templateId, mark: '', content: { templateId, reason, file: undefined } };
    }
  }

  #withDisk(templateId: string, content: FileContent): Template | DamagedTemplate {
    if ('reason' in content) return content;
    const { file } = content;
    const rootfsPath = this.#layout.templateRootfs(templateId);
    try {
      accessSync(rootfsPath, constants.R_OK);
    } catch {
      return { templateId, reason: 'rootfs.ext4 is missing or cannot be read', file };
    }
    return { ...file, rootfsPath };
  }
}

function parseTemplate(templateId: string, text: string): FileContent {
  const parsed = parseJson(text, templateFile);
  if (!parsed.ok) return { templateId, reason: `template.json: ${parsed.reason}`, file: undefined };
  const file = parsed.value;
  if (file.templateId !== templateId)
    return {
      templateId,
      reason: `template.json belongs to another template, ${file.templateId}`,
      file: undefined,
    };
  const broken = brokenSeal(text);
  return broken === undefined ? { file } : { templateId, reason: `template.json: ${broken}`, file };
}
