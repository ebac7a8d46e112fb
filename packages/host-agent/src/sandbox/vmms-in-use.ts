import { NestboxError } from '@nestbox/contract';
import { isProcessAlive } from '@nestbox/kit';
import type { SandboxRecordStore } from '../storage/sandbox-records.ts';
import type { VmmName } from '../vmm/driver.ts';
import type { SandboxRecord } from './record.ts';

/** Which VM managers the sandboxes of this state folder run on now, with their ids. */
export async function vmmsInUse(
  records: SandboxRecordStore<SandboxRecord>,
): Promise<ReadonlyMap<VmmName, readonly string[]>> {
  const inUse = new Map<VmmName, string[]>();
  for (const { record } of (await records.list()).records) {
    const { situation, sandboxId } = record;
    if (situation.state !== 'running' || !isProcessAlive(situation.vm.process)) continue;
    const ids = inUse.get(situation.vm.vmm) ?? [];
    inUse.set(situation.vm.vmm, [...ids, sandboxId]);
  }
  return inUse;
}

/** A driver cannot take over what another one's VM manager runs, and would take it for dead. Throws conflict before anything is touched. */
export function requireOwnVms(vmm: VmmName, inUse: ReadonlyMap<VmmName, readonly string[]>): void {
  for (const [other, ids] of inUse) {
    if (other === vmm) continue;
    throw new NestboxError(
      'conflict',
      `${ids.length} of the sandboxes here run on ${other} (${ids.slice(0, 3).join(', ')}${ids.length > 3 ? ', …' : ''}), which ${vmm} cannot take over. Start with --vmm ${other}, or end them with that first.`,
    );
  }
}
