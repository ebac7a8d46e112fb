import { setTimeout as delay } from 'node:timers/promises';
import { NestboxError } from '@nestbox/contract';
import type { HostDiskUsage } from '@nestbox/contract/http';
import type { AdminApi } from './admin-api.ts';

const POLL_MS = 1000;

/**
 * Lets every host read all that rests on it, and waits for the end of that. Answers what is on their disks, with what is damaged. Throws
 * `host_unavailable` when a host did not come to its end, and the signal's reason; then the hosts go on.
 */
export async function verifyDisks(api: AdminApi, signal: AbortSignal): Promise<HostDiskUsage[]> {
  const before = new Map((await api.getDiskUsage(signal)).map(({ hostId, verifiedAt }) => [hostId, verifiedAt]));
  await api.beginVerification(signal);
  for (;;) {
    const hosts = await api.getDiskUsage(signal);
    if (!hosts.some(({ isVerifying }) => isVerifying)) {
      const broken = hosts.find(({ hostId, verifiedAt }) => verifiedAt === before.get(hostId));
      if (broken === undefined) return hosts;
      throw new NestboxError('host_unavailable', `The host ${broken.hostId} did not read all of it; its log says why.`);
    }
    await delay(POLL_MS, undefined, { signal });
  }
}
