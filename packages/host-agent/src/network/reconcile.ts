import { readdir } from 'node:fs/promises';
import type { AddressRange } from '@nestbox/contract';
import type { Logger } from '@nestbox/kit';
import { interfaceNames, mendNamespace, NETNS_DIR, removeNamespaces } from './namespace.ts';
import type { ReconcileReport } from './network.ts';
import { slotIndexOfName, slotPlan } from './slot.ts';
import type { SlotClaims } from './slot-claims.ts';

export interface ReconcileOptions {
  readonly instance: string;
  readonly claims: SlotClaims;
  readonly logger: Logger;
  readonly inUse: readonly number[];
  readonly closed: readonly AddressRange[];
  /** Whether this process has the slot in its own hands: such a one is left alone. */
  readonly isHeld: (index: number) => boolean;
}

/** Slots mended at the same time; each takes a few short processes. */
const MENDED_AT_ONCE = 4;

/**
 * Makes what the kernel has of this installation agree with what is in use. Looks at names only, never at anything without
 * the installation's tag. What fails is logged and tried again by the next reconcile.
 */
export async function reconcileSlots(options: ReconcileOptions): Promise<ReconcileReport> {
  const kept: number[] = [];
  const lost: number[] = [];
  const queue = new Set(options.inUse).values();
  const worker = async () => {
    for (const index of queue) ((await keep(options, index)) ? kept : lost).push(index);
  };
  await Promise.all(Array.from({ length: MENDED_AT_ONCE }, worker));
  const removed = await removeLeftOvers(options, new Set(lost));
  return { kept: kept.sort((a, b) => a - b), lost: lost.sort((a, b) => a - b), removed };
}

async function keep({ instance, claims, logger, closed }: ReconcileOptions, index: number): Promise<boolean> {
  const slot = slotPlan(instance, index);
  try {
    if (!(await claims.claim(index))) {
      const holder = await claims.holder(index);
      if (holder !== instance) {
        logger.error({ slot: slot.netnsName, holder }, 'A network slot in use is claimed by another installation');
        return false;
      }
    }
    return await mendNamespace(slot, closed);
  } catch (err) {
    logger.error({ err, slot: slot.netnsName }, 'A network slot in use could not be mended');
    return true;
  }
}

async function removeLeftOvers(
  { instance, claims, logger, isHeld }: ReconcileOptions,
  lost: ReadonlySet<number>,
): Promise<string[]> {
  const claimed = await claims.list();
  const named = [...(await readdir(NETNS_DIR).catch(() => [])), ...interfaceNames()]
    .map((name) => slotIndexOfName(instance, name))
    .filter((index) => index !== undefined);
  const leftOver = [...new Set([...claimed, ...named])].filter((index) => lost.has(index) || !isHeld(index));
  const slots = leftOver.map((index) => slotPlan(instance, index));
  const failures = await removeNamespaces(slots);
  for (const { slot, error } of failures)
    logger.error({ err: error, slot: slot.netnsName }, 'What is left of a network slot could not be removed');
  const removed: string[] = [];
  for (const { index, netnsName } of slots) {
    if (failures.some(({ slot }) => slot.index === index)) continue;
    await claims.release(index);
    removed.push(netnsName);
  }
  return removed;
}
