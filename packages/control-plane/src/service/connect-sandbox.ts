import { NestboxError } from '@nestbox/contract';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import { extendEnd, findSandbox } from '../store/sandbox-repository.ts';
import { readSandboxId, sandboxNotFound } from './sandbox-lookup.ts';
import type { ServiceContext } from './service-context.ts';
import { checkTimeout } from './timeout-range.ts';

/**
 * Answers a running sandbox and lets it live at least `timeoutSec` from now; never shortens its life. Throws
 * `sandbox_not_found`, `sandbox_stopping`, and `host_unavailable` when its host cannot be reached now.
 */
export async function connectSandbox(
  context: ServiceContext,
  rawId: string,
  timeoutSec: number,
): Promise<SandboxRecord> {
  checkTimeout(timeoutSec, 0, context.maxTimeoutSec);
  const id = readSandboxId(rawId);
  const record = await findSandbox(context.db, id);
  if (record?.state === 'stopping') throw new NestboxError('sandbox_stopping', `The sandbox ${id} is being ended.`);
  if (record?.state !== 'running') throw sandboxNotFound(rawId);
  context.hosts.get(record.hostId).requireConnected();
  if (!(await extendEnd(context.db, id, context.clock.now() + timeoutSec * 1000))) throw sandboxNotFound(rawId);
  return record;
}
