import { lookup } from 'node:dns/promises';
import { mkdir } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import { RestError } from '../rest.ts';
import { mountInBackground, unmount } from '../system/mount.ts';
import type { VolumeMount } from './init-request.ts';

/** envd's own options; the kernel wants the server's address beside them, which mount.nfs would add. */
const NFS_OPTIONS =
  'hard,rsize=1048576,wsize=1048576,mountproto=tcp,mountport=2049,proto=tcp,port=2049,nfsvers=3,noacl,noac,lookupcache=none';
const MS_SYNCHRONOUS = 16;
const BUDGET_MS = 10_000;

/** The network file systems that /init asked for. */
export class Volumes {
  /** Source by mount point. */
  readonly #mounted = new Map<string, string>();

  /**
   * Mounts what is not mounted yet; after a restore (`remount`) the old connections are dead, so all are mounted anew.
   * Throws RestError 400 naming the first that cannot be mounted.
   */
  async mount(volumes: readonly VolumeMount[], remount: boolean): Promise<void> {
    const deadline = AbortSignal.timeout(BUDGET_MS);
    for (const { nfs_target: source, path } of volumes) {
      if (this.#mounted.get(path) === source && !remount) continue;
      try {
        if (this.#mounted.delete(path)) unmount(path);
        await withDeadline(mountNfs(source, path), deadline);
        this.#mounted.set(path, source);
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause);
        throw new RestError(400, `the volume ${source} could not be mounted at ${path}: ${reason}`, { cause });
      }
    }
  }
}

async function mountNfs(source: string, path: string): Promise<void> {
  const [, host] = /^([^:/]+|\[[0-9a-fA-F:]+\]):\/./.exec(source) ?? [];
  if (host === undefined) throw new Error('its form is not server:/path');
  if (!isAbsolute(path)) throw new Error('the mount point is not absolute');
  const { address } = await lookup(host.replace(/^\[|\]$/g, ''));
  await mkdir(path, { recursive: true });
  await mountInBackground(source, path, 'nfs', MS_SYNCHRONOUS, `${NFS_OPTIONS},addr=${address},mountaddr=${address}`);
}

function withDeadline<T>(work: Promise<T>, deadline: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const expire = () => reject(new Error(`the server did not answer within ${BUDGET_MS / 1000} s`));
  if (deadline.aborted) expire();
  deadline.addEventListener('abort', expire, { once: true });
  return Promise.race([work, promise]).finally(() => deadline.removeEventListener('abort', expire));
}
