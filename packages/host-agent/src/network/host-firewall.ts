import { readFile, writeFile } from 'node:fs/promises';
import { type AddressRange, NestboxError } from '@nestbox/contract';
import type { Logger } from '@nestbox/kit';
import { listTable, nft } from './commands.ts';
import { findDnsUpstream } from './dns-upstream.ts';
import { hostRules, hostTable, noHostRules } from './host-rules.ts';

const IP_FORWARD = '/proc/sys/net/ipv4/ip_forward';

export interface HostFirewallOptions {
  readonly instance: string;
  /** IPv4 address; without it the host's own configuration is followed. */
  readonly dnsUpstream: string | undefined;
  /** What no sandbox reaches: closed-ranges.ts. */
  readonly closed: readonly AddressRange[];
  readonly logger: Logger;
}

/** The installation's table on the host, and the host's switch for forwarding. */
export class HostFirewall {
  readonly #options: HostFirewallOptions;
  /** What the kernel listed right after the rules were applied, and for which resolver. */
  #applied: { readonly listing: string | undefined; readonly upstream: string } | undefined;
  #pending: Promise<void> | undefined;

  constructor(options: HostFirewallOptions) {
    this.#options = options;
  }

  /**
   * Puts the rules in place unless they are there, unchanged and for the resolver that the host uses now: rules vanish when
   * somebody flushes the ruleset (a restart of nftables.service does), and the resolver changes with the network.
   * Calls at the same time share one look.
   */
  ensure(): Promise<void> {
    this.#pending ??= this.#ensure().finally(() => {
      this.#pending = undefined;
    });
    return this.#pending;
  }

  async dnsUpstream(): Promise<string> {
    return this.#options.dnsUpstream ?? (await findDnsUpstream()).address;
  }

  async remove(): Promise<void> {
    await this.#pending?.catch(() => undefined);
    this.#applied = undefined;
    await nft(noHostRules(this.#options.instance));
  }

  async #ensure(): Promise<void> {
    const { instance, logger } = this.#options;
    await switchOnForwarding();
    const upstream = await this.dnsUpstream();
    if (this.#applied !== undefined) {
      const inPlace = this.#applied.listing === (await listTable(hostTable(instance)));
      if (inPlace && this.#applied.upstream === upstream) return;
      if (!inPlace)
        logger.warn(
          { table: hostTable(instance) },
          'The network rules of sandboxes were changed or removed; renewing them',
        );
    }
    await nft(hostRules(instance, upstream, this.#options.closed));
    this.#applied = { listing: await listTable(hostTable(instance)), upstream };
  }
}

/** It stays on when Nestbox ends: by then others may have come to need it (docs/networking.md). */
async function switchOnForwarding(): Promise<void> {
  if ((await readFile(IP_FORWARD, 'utf8')).trim() === '1') return;
  try {
    await writeFile(IP_FORWARD, '1');
  } catch (cause) {
    throw new NestboxError(
      'not_set_up',
      'The host does not forward packets, and Nestbox may not change that. Run as root: sysctl -w net.ipv4.ip_forward=1',
      { cause },
    );
  }
}
