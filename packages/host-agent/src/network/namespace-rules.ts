import { type AddressRange, GUEST_NETWORK } from '@nestbox/contract';
import { closedSet } from './closed-ranges.ts';
import { type SlotPlan, UPLINK } from './slot.ts';
import { NAMESPACE_TABLE, type SlotRules, slotRulesBlock } from './slot-rules.ts';

const GATEWAY = GUEST_NETWORK.gateway;

/**
 * The rules inside a slot's namespace, for `nft -f`: it replaces the whole table at once. They hold on their own, also
 * when somebody flushes the host's rules. What the guest opens passes the chain `internet` in both directions, so
 * that one change of that chain ends connections that are open already. What changes at run time is in slot-rules.ts.
 *
 * The VMM lives in this namespace too: the chain `output` lets it, should the guest take it over, open nothing. Without
 * privileges it cannot set the mark of the relay.
 *
 * Packets inside a TCP connection that this namespace has not seen the beginning of are of a guest that was restored here,
 * or are for one: the other end is gone, so a reset answers them (`unknown_tcp`), and nobody waits for a time-out. To
 * connection tracking a FIN of such a connection is invalid, the rest is new (nf_conntrack_tcp_loose). The reset for a FIN
 * belongs to no connection: `output` lets it pass to the guest and to the host, where it opens nothing.
 */
export function namespaceRules(slot: SlotPlan, closed: readonly AddressRange[], rules: SlotRules): string {
  const tap = slot.tapName;
  return `add table inet ${NAMESPACE_TABLE}
delete table inet ${NAMESPACE_TABLE}
table inet ${NAMESPACE_TABLE} {
  ${closedSet(closed)}

  ${slotRulesBlock(slot, rules)}

  chain spoofed {
    type filter hook prerouting priority raw; policy accept;
    meta nfproto != ipv4 drop
    iifname "${tap}" ether saddr != ${slot.guestMac} drop
    iifname "${tap}" ip saddr != ${slot.guestAddress} drop
  }

  chain arriving {
    type nat hook prerouting priority dstnat; policy accept;
    jump resolver
    iifname "${tap}" jump relayed
    iifname "${UPLINK}" ip daddr ${slot.hostReachableAddress} dnat ip to ${slot.guestAddress}
  }

  chain leaving {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "${UPLINK}" ip saddr ${slot.guestAddress} snat ip to ${slot.uplinkAddress}
  }

  chain unknown_tcp {
    ct state new tcp flags & (fin | syn | rst | ack) != syn reject with tcp reset
    ct state invalid tcp flags & (fin | syn | rst) == fin reject with tcp reset
  }

  chain forward {
    type filter hook forward priority filter; policy drop;
    meta l4proto tcp ct state { new, invalid } jump unknown_tcp
    ct state invalid drop
    iifname "${UPLINK}" oifname "${tap}" ct direction original ct status dnat ip saddr ${slot.hostVethAddress} accept
    iifname "${tap}" oifname "${UPLINK}" ct direction reply accept
    iifname "${tap}" oifname "${UPLINK}" jump internet
    iifname "${UPLINK}" oifname "${tap}" ct direction reply jump internet
    iifname "${UPLINK}" oifname "${UPLINK}" ct status dnat reject with icmp type host-unreachable
    iifname "${tap}" reject with icmp type admin-prohibited
  }

  chain input {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname "${UPLINK}" meta l4proto tcp jump unknown_tcp
    jump to_relay
    iifname "${tap}" ip daddr ${GATEWAY} icmp type echo-request accept
    iifname "${tap}" reject with icmp type admin-prohibited
  }

  chain output {
    type filter hook output priority filter; policy drop;
    ct state established,related accept
    ip daddr { ${slot.guestAddress}, ${slot.hostVethAddress} } tcp flags & (fin | syn | rst) == rst accept
    jump from_relay
  }
}
`;
}
