import type { HostDiskUsage } from '@nestbox/contract/http';
import type { HostLink } from '../hosts/host-link.ts';
import type { ServiceContext } from './service-context.ts';

/** What uses how much of the disk of each connected host. Throws `host_unavailable` when none answers. */
export async function getDiskUsage(context: ServiceContext, signal?: AbortSignal): Promise<HostDiskUsage[]> {
  const links = context.hosts.connected();
  const answers = await Promise.allSettled(links.map((link) => askHost(link, signal)));
  const told = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
  const failed = answers.find((answer) => answer.status === 'rejected');
  if (failed !== undefined && told.length === 0) throw failed.reason;
  if (failed !== undefined) context.logger.warn({ err: failed.reason }, 'A host did not tell the use of its disk');
  return told;
}

async function askHost(link: HostLink, signal?: AbortSignal): Promise<HostDiskUsage> {
  const { freeBytes, totalBytes, items } = await link.getDiskUsage(signal);
  return {
    hostId: link.id,
    freeBytes: Number(freeBytes),
    totalBytes: Number(totalBytes),
    items: items.map((item) => ({
      kind: item.kind,
      id: item.id,
      name: item.name,
      ownBytes: Number(item.ownBytes),
      sharedBytes: Number(item.sharedBytes),
      memoryBytes: Number(item.memoryBytes),
      diskBytes: Number(item.diskBytes),
    })),
  };
}
