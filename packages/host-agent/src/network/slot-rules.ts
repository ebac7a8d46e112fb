import { type AddressRange, formatIpv4, GUEST_NETWORK, LAST_ADDRESS } from '@nestbox/contract';
import { formatRanges } from './closed-ranges.ts';
import { type SlotPlan, UPLINK } from './slot.ts';

/** What of the outside a guest may open connections to. The closed ranges are closed on top of it. */
export interface SlotRules {
  /** Refused destinations; merged. */
  readonly denied: readonly AddressRange[];
  /** Who answers on port 53 of the gateway: the host's resolver, the relay in the slot, or nobody. */
  readonly dns: 'host' | 'relay' | 'nobody';
  /** Denied addresses that the relay's resolver has answered: TCP to them goes to the relay. Only with `dns: 'relay'`. */
  readonly answered: readonly AnsweredAddress[];
}

/** An address that a name was answered with. */
export interface AnsweredAddress {
  readonly address: number;
  /** It is open for so long. */
  readonly forSec: number;
}

export const OPEN_RULES: SlotRules = { denied: [], dns: 'host', answered: [] };
export const CLOSED_RULES: SlotRules = {
  denied: [{ first: 0, last: LAST_ADDRESS }],
  dns: 'nobody',
  answered: [],
};

/** The one table inside a slot's namespace. */
export const NAMESPACE_TABLE = 'nestbox';

/** Where the relay listens, on the gateway's address inside the namespace: for TCP that is sent to it, and for DNS. */
export const RELAY_PORT = 15_001;
/** Carried by what the relay sends from inside the namespace, where nothing else may open a connection. */
export const RELAY_MARK = 0x6e62;
/** Group of NFLOG that denied packets are told to, and how many a second at most. */
export const DENIED_LOG_GROUP = 1;
const DENIED_PER_SECOND = 20;
/** An IPv4 header with all options, and the ports behind it. */
export const DENIED_SNAP_BYTES = 64;

/** The chains that rules change. Others jump to them. */
const CHAINS = ['resolver', 'relayed', 'internet', 'refused', 'to_relay', 'from_relay'] as const;
type Chain = (typeof CHAINS)[number];

/** Sets and chains of the rules, for the table of a new slot. */
export function slotRulesBlock(slot: SlotPlan, rules: SlotRules): string {
  const chains = rulesOf(slot, rules);
  return `set denied {
    type ipv4_addr
    flags interval${rules.denied.length === 0 ? '' : `\n    elements = { ${formatRanges(rules.denied)} }`}
  }

  set answered {
    type ipv4_addr
    flags timeout${rules.answered.length === 0 ? '' : `\n    elements = { ${formatAnswered(rules.answered)} }`}
  }

${CHAINS.map((chain) => `  chain ${chain} {\n    ${chains[chain].join('\n    ')}\n  }`).join('\n\n')}`;
}

/** Replaces the rules of a slot in one transaction; everything else of the table stays as it is. */
export function changedSlotRules(slot: SlotPlan, closed: readonly AddressRange[], rules: SlotRules): string {
  const table = `inet ${NAMESPACE_TABLE}`;
  const chains = rulesOf(slot, rules);
  return [
    ...CHAINS.map((chain) => `flush chain ${table} ${chain}`),
    // Those of a host agent that was told to open others.
    `flush set ${table} closed`,
    `add element ${table} closed { ${formatRanges(closed)} }`,
    `flush set ${table} denied`,
    `flush set ${table} answered`,
    ...(rules.denied.length === 0 ? [] : [`add element ${table} denied { ${formatRanges(rules.denied)} }`]),
    ...(rules.answered.length === 0 ? [] : [`add element ${table} answered { ${formatAnswered(rules.answered)} }`]),
    ...CHAINS.flatMap((chain) => chains[chain].map((rule) => `add rule ${table} ${chain} ${rule}`)),
    '',
  ].join('\n');
}

/**
 * Opens addresses for so long from now, whether they are open already or not. An element's time cannot be changed before
 * Linux 6.13, so it is taken out, which needs it to be in.
 */
export function openedAddresses(addresses: readonly AnsweredAddress[]): string {
  const set = `inet ${NAMESPACE_TABLE} answered`;
  const elements = formatAnswered(addresses);
  return `add element ${set} { ${elements} }\ndelete element ${set} { ${addresses
    .map(({ address }) => formatIpv4(address))
    .join(', ')} }\nadd element ${set} { ${elements} }\n`;
}

/**
 * Packets of connections that are open already pass `internet` too, in both directions. So a change ends those that are not
 * allowed any more: a reset tells both ends as soon as one of them sends.
 *
 * `ct status dnat` on a connection that the guest opened can only be its gateway's port 53.
 */
function rulesOf(slot: SlotPlan, { denied, dns }: SlotRules): Record<Chain, string[]> {
  const toGateway = `ip daddr ${GUEST_NETWORK.gateway} meta l4proto { tcp, udp } th dport 53`;
  const relaying = dns === 'relay';
  const refusing = denied.length > 0;
  return {
    resolver: dns === 'host' ? [`iifname "${slot.tapName}" ${toGateway} dnat ip to ${slot.hostVethAddress}`] : [],
    relayed: relaying ? [`meta l4proto tcp ip daddr @denied ip daddr @answered redirect to :${RELAY_PORT}`] : [],
    internet: [
      ...(dns === 'host' ? ['ct status dnat accept'] : []),
      ...(refusing ? ['ct direction reply ip saddr @denied jump refused'] : []),
      'ct direction reply accept',
      refusing ? 'ip daddr @closed jump refused' : 'ip daddr @closed reject with icmp type admin-prohibited',
      ...(refusing ? ['ip daddr @denied jump refused'] : []),
      'accept',
    ],
    refused: refusing
      ? [
          `ct direction original limit rate ${DENIED_PER_SECOND}/second burst ${DENIED_PER_SECOND} packets log group ${DENIED_LOG_GROUP} snaplen ${DENIED_SNAP_BYTES}`,
          'meta l4proto tcp tcp flags & (syn | ack) != syn reject with tcp reset',
          'reject with icmp type admin-prohibited',
        ]
      : [],
    to_relay: relaying
      ? [
          `iifname "${slot.tapName}" tcp dport ${RELAY_PORT} ct status dnat accept`,
          `iifname "${slot.tapName}" ${toGateway} accept`,
        ]
      : [],
    from_relay: relaying ? [`oifname "${UPLINK}" meta mark ${RELAY_MARK} ip daddr != @closed accept`] : [],
  };
}

function formatAnswered(addresses: readonly AnsweredAddress[]): string {
  return addresses.map(({ address, forSec }) => `${formatIpv4(address)} timeout ${Math.ceil(forSec)}s`).join(', ');
}
