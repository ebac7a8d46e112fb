import { access, constants, readFile } from 'node:fs/promises';
import { runCommand } from '@nestbox/kit';
import { z } from 'zod';
import { closedRanges } from './closed-ranges.ts';
import { findDnsUpstream } from './dns-upstream.ts';
import { hostRules } from './host-rules.ts';
import { namespaceRules } from './namespace-rules.ts';
import { HOST_REACHABLE_RANGE, NAME_PREFIX, slotPlan, VETH_RANGE } from './slot.ts';
import { CLOSED_RULES } from './slot-rules.ts';

/** One need of sandbox networks, for `nestbox doctor`. */
export interface NetworkCheck {
  readonly name: string;
  /** `warning`: sandboxes run, but something about their network will probably not work. */
  readonly state: 'ok' | 'warning' | 'failed';
  /** What was found on this host. */
  readonly found: string;
  /** Why it matters. */
  readonly why: string;
  /** What to do; undefined when it is ok. */
  readonly mend: string | undefined;
}

/** Looks at everything that sandbox networks need of this host, and changes nothing. Never throws. */
export async function networkChecks(options: { dnsUpstream?: string } = {}): Promise<NetworkCheck[]> {
  const checks = [checkTools(), checkRules(), checkTun(), checkForwarding(), checkForeignRules(), checkRanges()];
  return [...(await Promise.all(checks)), await checkResolver(options.dnsUpstream)];
}

async function checkTools(): Promise<NetworkCheck> {
  const why = 'Each sandbox gets a network namespace, a TAP device and packet filter rules of its own.';
  const tools = [
    ['ip', '-V', 'iproute2'],
    ['nft', '--version', 'nftables'],
    ['nsenter', '--version', 'util-linux'],
  ] as const;
  const found: string[] = [];
  const missing: string[] = [];
  for (const [tool, versionFlag, debianPackage] of tools) {
    try {
      found.push((await runCommand(tool, [versionFlag])).stdout.trim());
    } catch {
      missing.push(debianPackage);
    }
  }
  return missing.length === 0
    ? { name: 'Network tools', state: 'ok', found: found.join('; '), why, mend: undefined }
    : {
        name: 'Network tools',
        state: 'failed',
        found: `missing: ${missing.join(', ')}`,
        why,
        mend: `apt-get install ${missing.join(' ')}`,
      };
}

/** Lets the kernel check all rules without applying them. */
async function checkRules(): Promise<NetworkCheck> {
  const name = 'Packet filter';
  const why = 'nftables rules keep sandboxes away from this host, its networks and each other.';
  if (process.geteuid?.() !== 0)
    return { name, state: 'failed', found: 'not run as root', why, mend: 'Run this command as root.' };
  const instance = '000000';
  try {
    const closed = closedRanges([]);
    const rules = { ...CLOSED_RULES, dns: 'relay' } as const;
    const input = `${hostRules(instance, '192.0.2.1', closed)}\n${namespaceRules(slotPlan(instance, 1), closed, rules)}`;
    await runCommand('nft', ['--check', '-f', '-'], { input });
    return { name, state: 'ok', found: 'the kernel accepts all rules', why, mend: undefined };
  } catch (error) {
    return {
      name,
      state: 'failed',
      found: error instanceof Error ? error.message : String(error),
      why,
      mend: 'Use Linux 5.9 or newer with nf_tables, nft_fib, nft_nat, nft_redir, nft_reject, nft_limit, nft_log, nfnetlink_log and nf_conntrack.',
    };
  }
}

async function checkTun(): Promise<NetworkCheck> {
  const name = 'TAP devices';
  const why = 'A VM reaches its network by a TAP device.';
  try {
    await access('/dev/net/tun', constants.R_OK | constants.W_OK);
    return { name, state: 'ok', found: '/dev/net/tun', why, mend: undefined };
  } catch {
    return { name, state: 'failed', found: '/dev/net/tun is missing or closed to us', why, mend: 'modprobe tun' };
  }
}

async function checkForwarding(): Promise<NetworkCheck> {
  const file = '/proc/sys/net/ipv4/ip_forward';
  const on = (await readFile(file, 'utf8').catch(() => '')).trim() === '1';
  return {
    name: 'Packet forwarding',
    state: 'ok',
    found: on ? 'on' : 'off; Nestbox switches it on when it starts',
    why: 'The traffic of sandboxes to the internet is routed by this host (net.ipv4.ip_forward).',
    mend: undefined,
  };
}

const chainList = z.object({
  nftables: z.array(
    z.object({
      chain: z
        .object({
          family: z.string(),
          table: z.string(),
          name: z.string(),
          hook: z.string().optional(),
          policy: z.string().optional(),
        })
        .optional(),
    }),
  ),
});

/**
 * Other programs' rules for forwarded packets. In nftables one chain's "accept" does not overrule another chain's "drop",
 * so ours cannot open what Docker, ufw or firewalld close. Chains made by iptables-legacy are not seen here.
 */
async function checkForeignRules(): Promise<NetworkCheck> {
  const name = 'Other firewalls';
  const why =
    'A firewall that drops forwarded packets also drops those of sandboxes; no rule of Nestbox can overrule it.';
  try {
    const { stdout } = await runCommand('nft', ['--json', 'list', 'chains']);
    const closing = chainList
      .parse(JSON.parse(stdout))
      .nftables.flatMap(({ chain }) => (chain === undefined ? [] : [chain]))
      .filter((chain) => chain.hook === 'forward' && ['ip', 'inet'].includes(chain.family))
      .filter((chain) => !chain.table.startsWith('nestbox_'))
      // firewalld's chain accepts by policy and rejects in its last rule.
      .filter((chain) => chain.policy === 'drop' || chain.table === 'firewalld');
    if (closing.length === 0)
      return { name, state: 'ok', found: 'none that drops forwarded packets', why, mend: undefined };
    return {
      name,
      state: 'warning',
      found: `forwarded packets are dropped by default in ${closing
        .map(({ family, table, name: chain }) => `${family} ${table} ${chain}`)
        .join(', ')}`,
      why,
      mend: await adviceFor(closing),
    };
  } catch (error) {
    return {
      name,
      state: 'warning',
      found: `the rules could not be listed: ${error instanceof Error ? error.message : String(error)}`,
      why,
      mend: 'Run this command as root with nftables installed.',
    };
  }
}

async function adviceFor(chains: readonly { table: string; family: string }[]): Promise<string> {
  const interfaces = `${NAME_PREFIX}+`;
  if (chains.some(({ table }) => table === 'firewalld'))
    return `firewall-cmd --permanent --zone=trusted --add-interface=${interfaces} && firewall-cmd --reload`;
  const { stdout } = await runCommand('nft', ['list', 'chains']).catch(() => ({ stdout: '' }));
  // Docker asks for its users' own rules in DOCKER-USER; ufw reads before.rules.
  const chain = stdout.includes('chain DOCKER-USER')
    ? 'DOCKER-USER'
    : stdout.includes('chain ufw-before-forward')
      ? 'ufw-before-forward'
      : 'FORWARD';
  return `iptables -I ${chain} -i ${interfaces} -j ACCEPT && iptables -I ${chain} -o ${interfaces} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT`;
}

const routeList = z.array(z.object({ dst: z.string(), dev: z.string().optional() }));

async function checkRanges(): Promise<NetworkCheck> {
  const name = 'Address ranges';
  const why = `Sandboxes use ${HOST_REACHABLE_RANGE} and ${VETH_RANGE} on this host.`;
  try {
    const { stdout } = await runCommand('ip', ['-4', '-json', 'route', 'show', 'table', 'all']);
    const foreign = routeList
      .parse(JSON.parse(stdout))
      .filter(({ dev }) => !(dev ?? '').startsWith(NAME_PREFIX))
      .filter(({ dst }) => /^10\.1[12]\./.test(dst))
      .map(({ dst, dev }) => `${dst} on ${dev ?? 'no interface'}`);
    if (foreign.length === 0) return { name, state: 'ok', found: 'not used by anybody else', why, mend: undefined };
    return {
      name,
      state: 'warning',
      found: `used already: ${[...new Set(foreign)].join(', ')}`,
      why,
      mend: 'Move the other network to another range, or run Nestbox on a host without it.',
    };
  } catch (error) {
    return {
      name,
      state: 'warning',
      found: `the routes could not be listed: ${error instanceof Error ? error.message : String(error)}`,
      why,
      mend: 'Install iproute2.',
    };
  }
}

async function checkResolver(configured: string | undefined): Promise<NetworkCheck> {
  const why = 'Sandboxes ask this DNS server, by way of their gateway.';
  if (configured !== undefined)
    return { name: 'DNS for sandboxes', state: 'ok', found: `${configured} (configured)`, why, mend: undefined };
  const { address, source } = await findDnsUpstream();
  return source === 'fallback'
    ? {
        name: 'DNS for sandboxes',
        state: 'warning',
        found: `no name server of this host can be used; ${address} is asked`,
        why,
        mend: 'Configure a DNS server for sandboxes if this host may not ask a public one.',
      }
    : { name: 'DNS for sandboxes', state: 'ok', found: `${address} (${source})`, why, mend: undefined };
}
