import { type EgressSettings, parseEgressRules } from '@nestbox/contract';
import { attempt } from './clean-up.ts';
import type { HostState } from './host-state.ts';
import { withEgress } from './live-sandbox.ts';
import { recordRunning } from './write-record.ts';

/**
 * Changes where a running sandbox may connect to. In force first, then recorded: after a crash in between, whoever asked has no
 * answer and asks again. Alone with its sandbox id.
 */
export async function setEgress(host: HostState, sandboxId: string, egress: EgressSettings): Promise<void> {
  const { context, table } = host;
  const rules = parseEgressRules(egress);
  const { sandbox, vm } = table.requireRunning(sandboxId);
  const before = sandbox.identity;
  await context.networks.setEgress(vm.slot, sandboxId, rules);
  try {
    await recordRunning(context, withEgress(before, egress), vm);
  } catch (error) {
    await attempt(context, sandboxId, 'putting the rules of the network back', () =>
      context.networks.setEgress(vm.slot, sandboxId, parseEgressRules(before.spec)),
    );
    throw error;
  }
  sandbox.changeEgress(egress);
  context.logger.info(
    { sandboxId, denied: rules.denied.length, allowed: rules.allowed.length, domains: rules.domains.length },
    'where a sandbox may connect to was changed',
  );
}
