import type { AddressRange } from '@nestbox/contract';
import { closedSet } from './closed-ranges.ts';
import { NAME_PREFIX, slotNamePrefix, VETH_RANGE } from './slot.ts';

/** The one table that an installation has on the host. */
export function hostTable(instance: string): string {
  return `nestbox_${instance}`;
}

/**
 * The rules of an installation on the host, for `nft -f`: it replaces the whole table at once. They name interfaces by
 * their common beginning, so no slot needs a rule of its own here, and no interface to the outside is named, so a
 * changed default route changes nothing.
 *
 * `prerouting` runs before anybody's DNAT (priority mangle): a port that a container publishes on the host's own
 * address is closed to sandboxes as well. The only way to an address of this machine or of a private network is the DNS
 * server, and only by way of the veth's own address (`ct original ip daddr`), to which the namespace sends the guest's
 * questions. Matching the input interface in postrouting needs Linux 5.7, reject in prerouting Linux 5.9.
 */
export function hostRules(instance: string, dnsUpstream: string, closed: readonly AddressRange[]): string {
  const table = hostTable(instance);
  const ours = `"${slotNamePrefix(instance)}*"`;
  const anyInstallation = `"${NAME_PREFIX}*"`;
  return `add table inet ${table}
delete table inet ${table}
table inet ${table} {
  ${closedSet(closed)}

  chain prerouting {
    type filter hook prerouting priority mangle; policy accept;
    iifname ${ours} jump from_sandbox
  }

  chain from_sandbox {
    meta nfproto != ipv4 drop
    fib saddr . iif oif missing drop
    ct direction reply accept
    fib daddr type local ip daddr ${VETH_RANGE} meta l4proto { tcp, udp } th dport 53 accept
    fib daddr type != unicast reject with icmp type admin-prohibited
    ip daddr @closed reject with icmp type admin-prohibited
  }

  chain to_resolver {
    type nat hook prerouting priority dstnat; policy accept;
    iifname ${ours} ip daddr ${VETH_RANGE} meta l4proto { tcp, udp } th dport 53 dnat ip to ${dnsUpstream}
  }

  chain hide_source {
    type nat hook postrouting priority srcnat; policy accept;
    iifname ${ours} oifname != ${anyInstallation} masquerade
  }

  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname ${ours} goto leaving
    oifname ${ours} goto arriving
  }

  chain leaving {
    oifname ${anyInstallation} drop
    tcp flags syn tcp option maxseg size set rt mtu
    ct original ip daddr ${VETH_RANGE} accept
    ip daddr @closed reject with icmp type admin-prohibited
    accept
  }

  chain arriving {
    tcp flags syn tcp option maxseg size set rt mtu
    ct state established,related accept
    drop
  }

  chain input {
    type filter hook input priority filter; policy accept;
    iifname ${ours} goto to_host
  }

  chain to_host {
    ct direction reply accept
    ct original ip daddr ${VETH_RANGE} ct status dnat accept
    reject with icmp type admin-prohibited
  }
}
`;
}

/** Removes the installation's table; fine when it is not there. */
export function noHostRules(instance: string): string {
  const table = hostTable(instance);
  return `add table inet ${table}\ndelete table inet ${table}\n`;
}
