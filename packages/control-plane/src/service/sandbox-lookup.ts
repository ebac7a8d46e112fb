import { NestboxError, parseSandboxId } from '@nestbox/contract';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import { findSandbox } from '../store/sandbox-repository.ts';
import type { ServiceContext } from './service-context.ts';

const SHOWN_ID_LENGTH = 40;

export function sandboxNotFound(rawId: string): NestboxError {
  const shown = rawId.length > SHOWN_ID_LENGTH ? `${rawId.slice(0, SHOWN_ID_LENGTH)}…` : rawId;
  return new NestboxError('sandbox_not_found', `There is no running sandbox ${JSON.stringify(shown)}.`);
}

/** Reads a sandbox id as clients send it. What can be no id is a sandbox that does not exist: `sandbox_not_found`. */
export function readSandboxId(rawId: string): string {
  const id = parseSandboxId(rawId);
  if (id === undefined) throw sandboxNotFound(rawId);
  return id;
}

/** Throws `sandbox_not_found` when there is none that is running. */
export async function requireRunning(context: ServiceContext, rawId: string): Promise<SandboxRecord> {
  const record = await findSandbox(context.db, readSandboxId(rawId));
  if (record === undefined || record.state !== 'running') throw sandboxNotFound(rawId);
  return record;
}
