import type { HostDiskUsage } from '@nestbox/contract/http';
import type { HostLink } from '../hosts/host-link.ts';
import { listSandboxIdsOfTeam } from '../store/sandbox-list-repository.ts';
import { listSnapshotOwners } from '../store/snapshot-owner-repository.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';
import type { ServiceContext } from './service-context.ts';
import type { ScopedContext } from './team-context.ts';

/**
 * What uses how much of the disk of each connected host; of the sandboxes and snapshots only those that the scope has.
 * Throws `host_unavailable` when none answers.
 */
export async function getDiskUsage(context: ScopedContext, signal?: AbortSignal): Promise<HostDiskUsage[]> {
  const links = context.hosts.connected();
  const answers = await Promise.allSettled(links.map((link) => askHost(link, signal)));
  const told = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
  const failed = answers.find((answer) => answer.status === 'rejected');
  if (failed !== undefined && told.length === 0) throw failed.reason;
  if (failed !== undefined) context.logger.warn({ err: failed.reason }, 'A host did not tell the use of its disk');
  const isVisible = await visibleTo(context);
  return told.map((host) => ({ ...host, items: host.items.filter(isVisible) }));
}

/**
 * Lets each connected host read all that rests on it; `getDiskUsage` tells what comes of it. Throws `host_unavailable` when one does not begin.
 */
export async function verifyDisks(context: ServiceContext): Promise<void> {
  await Promise.all(context.hosts.connected().map((link) => link.verifyDisk()));
}

async function visibleTo(context: ScopedContext): Promise<(item: HostDiskUsage['items'][number]) => boolean> {
  const { scope } = context;
  if (scope === EVERY_TEAM) return () => true;
  const [sandboxes, owners] = await Promise.all([
    listSandboxIdsOfTeam(context.db, scope),
    listSnapshotOwners(context.db),
  ]);
  const ownSandboxes = new Set(sandboxes);
  return ({ kind, id }) => {
    if (kind === 'sandbox') return ownSandboxes.has(id);
    if (kind === 'snapshot') return (owners.get(id) ?? context.defaultTeamId) === scope.teamId;
    return true;
  };
}

async function askHost(link: HostLink, signal?: AbortSignal): Promise<HostDiskUsage> {
  const { freeBytes, totalBytes, items, verifying, verifiedAtMs } = await link.getDiskUsage(signal);
  return {
    hostId: link.id,
    freeBytes: Number(freeBytes),
    totalBytes: Number(totalBytes),
    isVerifying: verifying,
    ...(verifiedAtMs === 0n ? {} : { verifiedAt: new Date(Number(verifiedAtMs)).toISOString() }),
    items: items.map((item) => ({
      kind: item.kind,
      id: item.id,
      name: item.name,
      ownBytes: Number(item.ownBytes),
      sharedBytes: Number(item.sharedBytes),
      memoryBytes: Number(item.memoryBytes),
      diskBytes: Number(item.diskBytes),
      ...(item.damage === '' ? {} : { damage: item.damage }),
    })),
  };
}
