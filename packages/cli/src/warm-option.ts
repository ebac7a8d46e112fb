import { InvalidArgumentError } from 'commander';

/** How many restored sandboxes of a template the host keeps ready to be handed out. */
export interface WarmTemplate {
  /** Id or name. */
  readonly templateId: string;
  readonly count: number;
}

const MOST_WARM = 100;

/** Collects `--warm base=2 --warm other=1`. The number stands behind the last `=`. */
export function collectWarm(word: string, previous: readonly WarmTemplate[] = []): readonly WarmTemplate[] {
  const split = word.lastIndexOf('=');
  const templateId = word.slice(0, Math.max(0, split)).trim();
  const number = word.slice(split + 1);
  if (split === -1) throw new InvalidArgumentError(`"${word}" is not of the form TEMPLATE=N.`);
  if (templateId === '') throw new InvalidArgumentError(`"${word}" names no template in front of the "=".`);
  if (!/^[0-9]+$/.test(number) || Number(number) > MOST_WARM)
    throw new InvalidArgumentError(`"${number}" is not a whole number of sandboxes from 0 to ${MOST_WARM}.`);
  if (previous.some((warm) => warm.templateId === templateId))
    throw new InvalidArgumentError(`"${templateId}" has a number already.`);
  return [...previous, { templateId, count: Number(number) }];
}
