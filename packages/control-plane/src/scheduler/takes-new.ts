import { NestboxError } from '@nestbox/contract';
import type { Kysely } from 'kysely';
import { listHostStatuses } from '../store/host-status-repository.ts';
import type { Database } from '../store/schema.ts';

interface Identified {
  readonly id: string;
}

/**
 * Those of the hosts that take new sandboxes: nobody has said that they are draining or on standby. Throws `host_unavailable` when
 * there is none. What they have already goes on, and paused sandboxes of theirs can be resumed: they are nowhere else.
 */
export async function requireTakingNew<H extends Identified>(db: Kysely<Database>, hosts: readonly H[]): Promise<H[]> {
  const statuses = await listHostStatuses(db);
  const taking = hosts.filter(({ id }) => (statuses.get(id)?.status ?? 'ready') === 'ready');
  if (taking.length > 0) return taking;
  const said = hosts.map(({ id }) => `${id} is ${statuses.get(id)?.status === 'standby' ? 'on standby' : 'draining'}`);
  throw new NestboxError('host_unavailable', `No host takes this sandbox now: ${said.join(', ')}.`);
}
