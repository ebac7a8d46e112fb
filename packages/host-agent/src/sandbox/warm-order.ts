import { NestboxError } from '@nestbox/contract';

/** How many restored VMs of a template wait for a create. */
export interface WarmOrder {
  /** Id or name. */
  readonly templateId: string;
  readonly count: number;
}

/** More would only take memory from the sandboxes that somebody uses. */
const MOST_WARM = 100;

/**
 * Reads one `--warm TEMPLATE=N` more; the number stands behind the last `=`. Throws invalid_request for what is no such word
 * and for a template that has a number already.
 */
export function collectWarmOrder(word: string, previous: readonly WarmOrder[] = []): readonly WarmOrder[] {
  const split = word.lastIndexOf('=');
  const templateId = word.slice(0, Math.max(0, split)).trim();
  const number = word.slice(split + 1);
  if (split === -1) throw refusal(`"${word}" is not of the form TEMPLATE=N.`);
  if (templateId === '') throw refusal(`"${word}" names no template in front of the "=".`);
  if (!/^[0-9]+$/.test(number) || Number(number) > MOST_WARM)
    throw refusal(`"${number}" is not a whole number of sandboxes from 0 to ${MOST_WARM}.`);
  if (previous.some((order) => order.templateId === templateId)) throw refusal(`"${templateId}" has a number already.`);
  return [...previous, { templateId, count: Number(number) }];
}

function refusal(message: string): NestboxError {
  return new NestboxError('invalid_request', message);
}
