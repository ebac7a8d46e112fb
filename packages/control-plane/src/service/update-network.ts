import type { SandboxNetworkUpdate } from '@nestbox/contract/http';
import type { SandboxRecord, StoredNetwork } from '../store/sandbox-record.ts';
import { setEgress } from '../store/sandbox-repository.ts';
import { notRunning } from './sandbox-lookup.ts';
import { checkNetworkUpdate } from './supported-features.ts';
import type { TeamContext } from './team-context.ts';
import { requireAwake } from './when-stable.ts';

/**
 * Replaces where a running sandbox may connect to, as a whole. Throws `invalid_request`, `not_supported`, `sandbox_not_found`,
 * `sandbox_paused`, `sandbox_stopping`, and errors of the host; then the rules are as they were.
 */
export async function updateNetwork(context: TeamContext, rawId: string, update: SandboxNetworkUpdate): Promise<void> {
  const egress = checkNetworkUpdate(update);
  const record = await requireAwake(context, rawId);
  await context.hosts.get(record.hostId).setEgress(record.id, egress);
  // The host keeps the rules; this is for telling them.
  const told = { allowInternetAccess: update.allow_internet_access, network: updatedNetwork(record, update) };
  if (!(await setEgress(context.db, record.id, told))) throw await notRunning(context, rawId);
  context.logger.info({ sandboxId: record.id }, 'The network of a sandbox was changed');
}

function updatedNetwork({ network }: SandboxRecord, { allowOut, denyOut }: SandboxNetworkUpdate): StoredNetwork {
  const { allowOut: _allowed, denyOut: _denied, ...others } = network ?? {};
  return { ...others, ...(allowOut === undefined ? {} : { allowOut }), ...(denyOut === undefined ? {} : { denyOut }) };
}
