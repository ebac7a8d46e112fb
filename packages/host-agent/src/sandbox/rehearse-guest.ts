import { randomBytes } from 'node:crypto';
import type { Logger } from '@nestbox/kit';
import type { GuestClient } from '../guest/guest-client.ts';
import { initialise } from './bring-up-agent.ts';
import type { SandboxIdentity } from './live-sandbox.ts';

/** After this many rounds V8 has compiled what the guest agent does for a first user. */
const WARM_UP_ROUNDS = 10;
/** A garbage collection makes V8 forget the shapes of objects of which none was left, and the places that knew them. */
const ROUNDS_AFTER_COLLECTION = 5;
const INIT_ROUNDS = 30;

/**
 * Lets a booted guest do, before the snapshot of its template is taken, what every sandbox restored from it will do first, so that the
 * guest agent has compiled it and has its garbage behind it. Leaves nothing of it. Throws GuestError.
 */
export async function rehearseGuest(
  identity: SandboxIdentity,
  guest: GuestClient,
  logger: Logger,
  limit: AbortSignal,
): Promise<void> {
  await guest.warmUp({ rounds: WARM_UP_ROUNDS, logger }, limit);
  await guest.settle(limit);
  await guest.warmUp({ rounds: ROUNDS_AFTER_COLLECTION, logger }, limit);
  // The way of every restore's first request: only a real one, with a life of its own, goes all of it. With a token, as most sandboxes have one.
  guest.giveToken(randomBytes(32).toString('hex'));
  for (let round = 0; round < INIT_ROUNDS; round++) await initialise(identity, guest, limit);
  guest.giveToken(undefined);
  await initialise(identity, guest, limit);
  guest.closeIdleConnections();
}
