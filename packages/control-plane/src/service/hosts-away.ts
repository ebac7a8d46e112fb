import { listHostsLookedAfter } from '../store/lease-repository.ts';
import type { ServiceContext } from './service-context.ts';

/** Ids of the hosts that cannot be asked from here now: they are not connected, or another control plane's. */
export async function hostsAway({ db, hosts }: ServiceContext): Promise<string[]> {
  const away = [...hosts].filter(({ state }) => state.kind !== 'connected').map(({ id }) => id);
  const others = (await listHostsLookedAfter(db)).filter((hostId) => hosts.find(hostId) === undefined);
  return [...away, ...others];
}
