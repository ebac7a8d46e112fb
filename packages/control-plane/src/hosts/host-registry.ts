import { NestboxError } from '@nestbox/contract';
import type { Clock } from '../clock.ts';
import type { HostConnection } from '../config.ts';
import { HostLink } from './host-link.ts';

/** The configured hosts by id. */
export class HostRegistry implements Iterable<HostLink> {
  readonly #links: ReadonlyMap<string, HostLink>;

  /** `mayChange` throws when this server must not ask a host to change anything now. */
  constructor(connections: readonly HostConnection[], clock: Pick<Clock, 'now'>, mayChange: () => void) {
    this.#links = new Map(connections.map((connection) => [connection.id, new HostLink(connection, clock, mayChange)]));
    if (this.#links.size !== connections.length)
      throw new NestboxError('invalid_request', 'Two of the configured hosts have the same id.');
  }

  [Symbol.iterator](): Iterator<HostLink> {
    return this.#links.values();
  }

  find(hostId: string): HostLink | undefined {
    return this.#links.get(hostId);
  }

  /** Throws `host_unavailable` when the host is not configured: not any more, or only at another control plane. */
  get(hostId: string): HostLink {
    const link = this.#links.get(hostId);
    if (link === undefined)
      throw new NestboxError(
        'host_unavailable',
        `The host ${hostId} is not among the hosts of this control plane. When it is another one's, ask that one.`,
      );
    return link;
  }

  /** The hosts that can take work now. Throws `host_unavailable` when there is none. */
  connected(): HostLink[] {
    const links = [...this.#links.values()];
    const connected = links.filter((link) => link.state.kind === 'connected');
    if (connected.length > 0) return connected;
    const [first] = links;
    if (first === undefined) throw new NestboxError('host_unavailable', 'No host is configured.');
    first.requireConnected();
    return [first];
  }
}
