import { NestboxError } from '@nestbox/contract';
import {
  type ApiKeyRecord,
  insertApiKey,
  listApiKeys as readApiKeys,
  renameApiKey as writeName,
  revokeApiKey as writeRevocation,
} from '../store/api-key-repository.ts';
import { findTeam } from '../store/team-repository.ts';
import { type NewKey, newKey } from './api-keys.ts';
import { teamNotFound } from './manage-teams.ts';
import type { TeamContext } from './team-context.ts';

/** Makes a key of the team. Throws `invalid_request` for an end that has passed, and `team_not_found`. */
export async function createApiKey(
  context: TeamContext,
  name: string,
  expiresAtMs: number | undefined,
): Promise<NewKey> {
  const { teamId } = context.scope;
  const nowMs = context.clock.now();
  if (expiresAtMs !== undefined && expiresAtMs <= nowMs)
    throw new NestboxError('invalid_request', 'The field "expiresAt" must be a time to come.');
  if ((await findTeam(context.db, teamId)) === undefined) throw teamNotFound(teamId);
  const made = newKey(teamId, name, nowMs, expiresAtMs);
  if (!(await insertApiKey(context.db, made.record)))
    throw new NestboxError('internal', 'A new key was there already: the random source repeats itself.');
  context.logger.info({ teamId, keyId: made.record.id }, 'A key was made');
  return made;
}

/** Those that are not revoked, oldest first, with their last use as it is known by now. */
export async function listApiKeys(context: TeamContext): Promise<ApiKeyRecord[]> {
  await context.keys.writeUses();
  return await readApiKeys(context.db, context.scope);
}

/** Throws `not_found`. */
export async function renameApiKey(context: TeamContext, keyId: string, name: string): Promise<void> {
  const renamed = await writeName(context.db, context.scope, keyId, name);
  context.keys.forget();
  if (!renamed) throw keyNotFound();
}

/** From the next request on it is refused. Throws `not_found`. */
export async function revokeApiKey(context: TeamContext, keyId: string): Promise<void> {
  const revoked = await writeRevocation(context.db, context.scope, keyId, context.clock.now());
  context.keys.forget();
  if (!revoked) throw keyNotFound();
  context.logger.info({ ...context.scope, keyId }, 'A key was revoked');
}

function keyNotFound(): NestboxError {
  return new NestboxError('not_found', 'The team has no such key, or it is revoked already.');
}
