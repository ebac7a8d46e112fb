import { Gauge, type Registry } from '@nestbox/kit/metrics';
import { countByState } from '../store/sandbox-list-repository.ts';
import type { ServiceContext } from './service-context.ts';

/** What the database and the links to the hosts say at the moment of a scrape. */
export function observeState({ db, hosts }: Pick<ServiceContext, 'db' | 'hosts'>, registry: Registry): void {
  new Gauge({
    name: 'nestbox_sandboxes',
    help: 'Sandboxes of all hosts, by state',
    labelNames: ['state'],
    registers: [registry],
    async collect() {
      this.reset();
      for (const [state, count] of await countByState(db)) this.set({ state }, count);
    },
  });
  new Gauge({
    name: 'nestbox_host_connected',
    help: '1 for a host that can be reached now, 0 for one that cannot',
    labelNames: ['host'],
    registers: [registry],
    collect() {
      for (const { id, state } of hosts) this.set({ host: id }, state.kind === 'connected' ? 1 : 0);
    },
  });
}
