import { NestboxError, parseSandboxId } from '@nestbox/contract';
import { findEndedSandbox } from '../store/ended-sandbox-repository.ts';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import { findSandbox } from '../store/sandbox-repository.ts';
import { shownState } from '../store/sandbox-state.ts';
import type { ScopedContext } from './team-context.ts';

const SHOWN_ID_LENGTH = 40;

export function sandboxNotFound(rawId: string): NestboxError {
  const shown = rawId.length > SHOWN_ID_LENGTH ? `${rawId.slice(0, SHOWN_ID_LENGTH)}…` : rawId;
  return new NestboxError('sandbox_not_found', `There is no sandbox ${JSON.stringify(shown)}.`);
}

/** Reads a sandbox id as clients send it. What can be no id is a sandbox that does not exist: `sandbox_not_found`. */
export function readSandboxId(rawId: string): string {
  const id = parseSandboxId(rawId);
  if (id === undefined) throw sandboxNotFound(rawId);
  return id;
}

/** Running or paused, or on the way from one to the other. Throws `sandbox_not_found` when there is none such. */
export async function requireKnown(context: ScopedContext, rawId: string): Promise<SandboxRecord> {
  const record = await findSandbox(context.db, context.scope, readSandboxId(rawId));
  if (record === undefined || shownState(record.state) === undefined) throw sandboxNotFound(rawId);
  return record;
}

/** A sandbox that is there in whichever state, or has ended not long ago. Throws `sandbox_not_found`. */
export async function requireRemembered(
  { db, scope }: ScopedContext,
  rawId: string,
): Promise<{ readonly id: string; readonly hostId: string }> {
  const id = readSandboxId(rawId);
  const known = (await findSandbox(db, scope, id)) ?? (await findEndedSandbox(db, scope, id));
  if (known === undefined) throw sandboxNotFound(rawId);
  return { id, hostId: known.hostId };
}

/** Why something that needs a running sandbox did not find one. `sandbox_not_found` for a paused one too: the wire's way. */
export async function notRunning(context: ScopedContext, rawId: string): Promise<NestboxError> {
  const record = await findSandbox(context.db, context.scope, readSandboxId(rawId));
  if (record === undefined || shownState(record.state) === undefined) return sandboxNotFound(rawId);
  return new NestboxError('sandbox_not_found', `The sandbox ${record.id} is ${record.state}: connect to it first.`);
}
