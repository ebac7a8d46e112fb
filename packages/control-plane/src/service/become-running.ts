import { NestboxError } from '@nestbox/contract';
import type { Sandbox } from '@nestbox/contract/host';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import { markRunning } from '../store/sandbox-state-repository.ts';
import type { ServiceContext } from './service-context.ts';

/**
 * Records that a host has made a sandbox that was starting; its time runs from now on. Throws `sandbox_stopping` when
 * somebody wants it ended.
 */
export async function becomeRunning(
  context: ServiceContext,
  sandbox: Sandbox,
  timeoutSec: number,
): Promise<SandboxRecord> {
  const startedAtMs = context.clock.now();
  const life = { startedAtMs, endAtMs: startedAtMs + timeoutSec * 1000 };
  const record = await markRunning(context.db, sandbox.sandboxId, sandbox, life);
  if (record === undefined) throw new NestboxError('sandbox_stopping', 'The sandbox was ended while it was starting.');
  context.endChanged();
  return record;
}
