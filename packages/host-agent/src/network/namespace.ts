import { existsSync, readFileSync } from 'node:fs';
import { statfs, writeFile } from 'node:fs/promises';
import { type AddressRange, GUEST_NETWORK, NestboxError } from '@nestbox/contract';
import { ipBatch, ipBatchTryAll, nftInNamespace, shellInNamespace } from './commands.ts';
import { namespaceRules } from './namespace-rules.ts';
import { type SlotPlan, tapOwnerUid, UPLINK } from './slot.ts';
import {
  type AnsweredAddress,
  CLOSED_RULES,
  changedSlotRules,
  NAMESPACE_TABLE,
  OPEN_RULES,
  openedAddresses,
  type SlotRules,
} from './slot-rules.ts';

export const NETNS_DIR = '/run/netns';

/** From linux/magic.h: what statfs(2) says of a namespace's file when a namespace is mounted on it. */
const NSFS_MAGIC = 0x6e736673;

/** Makes everything that the kernel has of a slot, open but for the closed ranges. On failure nothing is left. */
export async function makeNamespace(slot: SlotPlan, closed: readonly AddressRange[]): Promise<void> {
  try {
    await ipBatch([`netns add ${slot.netnsName}`, vethLine(slot), ...hostSideLines(slot)]);
    await switchOffIpv6(slot.vethName);
    await shellInNamespace(
      slot.netnsName,
      [sysctlLines(), nftLines(namespaceRules(slot, closed, OPEN_RULES)), tapLines(slot), uplinkLines(slot)].join('\n'),
    );
  } catch (error) {
    await removeNamespace(slot).catch((undoError: unknown) => {
      throw new NestboxError('internal', `Network slot ${slot.index} could not be made, nor its remains removed.`, {
        cause: new AggregateError([error, undoError]),
      });
    });
    throw error;
  }
}

/**
 * Puts back what is missing of a slot in use and leaves the rest as it is. Rules that are missing, or those of a version
 * from before they could be changed, come back closed. Returns false when the namespace itself is gone: a VM that ran in it cannot be reached any more.
 */
export async function mendNamespace(slot: SlotPlan, closed: readonly AddressRange[]): Promise<boolean> {
  if (!(await isNamespace(slot.netnsName))) return false;
  await ipBatch([...(interfaceExists(slot.vethName) ? [] : [vethLine(slot)]), ...hostSideLines(slot)]);
  await switchOffIpv6(slot.vethName);
  await shellInNamespace(
    slot.netnsName,
    [
      sysctlLines(),
      `if ! nft list set inet ${NAMESPACE_TABLE} answered >/dev/null 2>&1; then`,
      nftLines(namespaceRules(slot, closed, CLOSED_RULES)),
      'fi',
      `if ! ip link show dev ${slot.tapName} >/dev/null 2>&1; then`,
      tapLines(slot),
      `elif ! ip link show dev ${slot.tapName} | grep -q ${GUEST_NETWORK.gatewayMac}; then`,
      ipLines(gatewayLines(slot)),
      'fi',
      uplinkLines(slot),
    ].join('\n'),
  );
  return true;
}

type SlotNames = Pick<SlotPlan, 'netnsName' | 'vethName'>;

/** Tries every step. Throws only when something of the slot is still there afterwards. */
export async function removeNamespace(slot: SlotNames): Promise<void> {
  const [failure] = await removeNamespaces([slot]);
  if (failure !== undefined) throw failure.error;
}

/** Removes many in one process. Returns those of which something is still there afterwards. */
export async function removeNamespaces<S extends SlotNames>(
  slots: readonly S[],
): Promise<{ readonly slot: S; readonly error: unknown }[]> {
  if (slots.length === 0) return [];
  try {
    // The veth first and by name: the namespace itself lives on as long as a process is in it.
    await ipBatchTryAll(slots.flatMap((slot) => [`link del ${slot.vethName}`, `netns del ${slot.netnsName}`]));
    return [];
  } catch (error) {
    return slots.filter(somethingExists).map((slot) => ({ slot, error }));
  }
}

/** Whether the kernel has anything by the names of this slot, half-made things included. */
export function somethingExists(slot: SlotNames): boolean {
  return interfaceExists(slot.vethName) || existsSync(`${NETNS_DIR}/${slot.netnsName}`);
}

/** Changes what the guest reaches, connections that are open included, in one transaction. */
export async function changeNamespaceRules(
  slot: SlotPlan,
  closed: readonly AddressRange[],
  rules: SlotRules,
): Promise<void> {
  await nftInNamespace(slot.netnsName, changedSlotRules(slot, closed, rules));
}

/** Sends TCP to these addresses to the relay, for so long. */
export async function openInNamespace(
  slot: Pick<SlotPlan, 'netnsName'>,
  addresses: readonly AnsweredAddress[],
): Promise<void> {
  await nftInNamespace(slot.netnsName, openedAddresses(addresses));
}

/** Interfaces of the network namespace that this process runs in. */
export function interfaceNames(): string[] {
  return readFileSync('/proc/net/dev', 'utf8')
    .split('\n')
    .slice(2)
    .flatMap((line) => line.match(/^\s*([^\s:]+):/)?.[1] ?? []);
}

function interfaceExists(name: string): boolean {
  return interfaceNames().includes(name);
}

async function isNamespace(netnsName: string): Promise<boolean> {
  try {
    return (await statfs(`${NETNS_DIR}/${netnsName}`)).type === NSFS_MAGIC;
  } catch {
    return false;
  }
}

/** The peer is made inside the namespace, so it never shows on the host. */
function vethLine(slot: SlotPlan): string {
  return `link add ${slot.vethName} type veth peer name ${UPLINK} netns ${slot.netnsName}`;
}

function hostSideLines(slot: SlotPlan): string[] {
  return [
    `addr replace ${slot.hostVethAddress}/31 dev ${slot.vethName}`,
    `link set ${slot.vethName} up`,
    `route replace ${slot.hostReachableAddress}/32 via ${slot.uplinkAddress} dev ${slot.vethName} src ${slot.hostVethAddress}`,
  ];
}

/** Written by ourselves: the file is missing where the kernel has no IPv6, and then there is nothing to switch off. */
async function switchOffIpv6(interfaceName: string): Promise<void> {
  const file = `/proc/sys/net/ipv6/conf/${interfaceName}/disable_ipv6`;
  if (existsSync(file)) await writeFile(file, '1');
}

/**
 * Namespaces inherit no dependable defaults (net.core.devconf_inherit_init_net), so all that matters is set.
 *
 * While no VMM holds the TAP it has no carrier. Its route is ignored then, the guest's traffic turns back to the uplink, and
 * a rule answers "host unreachable": the host's connection attempts fail at once instead of waiting for a retransmission.
 * The kernel limits such answers to one a second unless told otherwise.
 *
 * Connection tracking must not doubt packets of connections that it knows: some are answered with a reset when it does
 * not know them (namespace-rules.ts), and the guest and its peer check their windows themselves.
 */
function sysctlLines(): string {
  return `echo 1 >/proc/sys/net/ipv4/ip_forward
echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
echo 0 >/proc/sys/net/ipv4/conf/default/rp_filter
echo 1 >/proc/sys/net/ipv4/conf/default/ignore_routes_with_linkdown
echo 0 >/proc/sys/net/ipv4/icmp_ratelimit
for setting in tcp_loose tcp_be_liberal; do
  if [ -e /proc/sys/net/netfilter/nf_conntrack_$setting ]; then
    echo 1 >/proc/sys/net/netfilter/nf_conntrack_$setting
  fi
done
if [ -d /proc/sys/net/ipv6 ]; then
  echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
  echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
fi`;
}

function tapLines(slot: SlotPlan): string {
  return ipLines([
    `tuntap add dev ${slot.tapName} mode tap user ${tapOwnerUid(slot)}`,
    `link set ${slot.tapName} txqueuelen 5000 up`,
    `addr add ${GUEST_NETWORK.gateway}/${GUEST_NETWORK.prefixLength} dev ${slot.tapName}`,
    ...gatewayLines(slot),
  ]);
}

/**
 * Neither side needs ARP before its first packet: a restored guest has the gateway's MAC in its cache, from whichever slot it
 * was in, and the guest's own never changes hands, so its entry is fixed here. A change of the MAC drops that entry.
 */
function gatewayLines(slot: SlotPlan): string[] {
  return [
    `link set ${slot.tapName} address ${GUEST_NETWORK.gatewayMac}`,
    `neigh replace ${slot.guestAddress} lladdr ${slot.guestMac} dev ${slot.tapName} nud permanent`,
  ];
}

function uplinkLines(slot: SlotPlan): string {
  return ipLines([
    `addr replace ${slot.uplinkAddress}/31 dev ${UPLINK}`,
    `link set ${UPLINK} up`,
    `route replace default via ${slot.hostVethAddress} dev ${UPLINK}`,
  ]);
}

function ipLines(lines: readonly string[]): string {
  return `ip -batch - <<'END'\n${lines.join('\n')}\nEND`;
}

function nftLines(ruleset: string): string {
  return `nft -f - <<'END'\n${ruleset}END`;
}
