import type { TemplateFile } from '../storage/images-file.ts';

/** By which one is told from another. */
export type TemplateKey = Pick<TemplateFile, 'templateId' | 'createdAtMs' | 'snapshot' | 'originSandboxId'>;

/** Which templates and snapshots are known to be damaged, in the life of this process. One that takes the place of another is another one. */
export class TemplateDamage {
  readonly #reasons = new Map<string, string>();

  /** In plain words; undefined: nothing is known. */
  of(template: TemplateKey): string | undefined {
    return this.#reasons.get(keyOf(template));
  }

  /** True: it is news. */
  set(template: TemplateKey, reason: string | undefined): boolean {
    const before = this.of(template);
    if (reason === undefined) this.#reasons.delete(keyOf(template));
    else this.#reasons.set(keyOf(template), reason);
    return reason !== undefined && reason !== before;
  }
}

/** A built template has a snapshot made anew when that is damaged; what counts of it is its disk. */
function keyOf({ templateId, createdAtMs, snapshot, originSandboxId }: TemplateKey): string {
  return `${templateId} ${createdAtMs} ${originSandboxId === undefined ? '' : (snapshot ?? '')}`;
}
