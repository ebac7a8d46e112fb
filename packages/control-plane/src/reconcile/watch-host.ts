import type { WatchSandboxesResponse } from '@nestbox/contract/host';
import { fromRpcError, type Logger } from '@nestbox/kit';
import type { Clock } from '../clock.ts';
import type { HostLink } from '../hosts/host-link.ts';
import type { Reconciler } from './reconciler.ts';

const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 10_000;

export interface HostWatch {
  readonly link: HostLink;
  readonly reconciler: Reconciler;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Keeps a watch on one host until the signal is aborted, and connects again with growing pauses when it is lost. Rows
 * stay as they are meanwhile. `onFirstResult` is called once: when the host was first taken in, or first failed.
 * Never rejects.
 */
export async function watchHost(watch: HostWatch, signal: AbortSignal, onFirstResult: () => void): Promise<void> {
  const { link, clock, logger } = watch;
  let retryMs = FIRST_RETRY_MS;
  while (!signal.aborted) {
    try {
      for await (const message of link.watch(signal)) {
        await takeIn(watch, message, signal);
        if (message.event.case === 'snapshot') {
          retryMs = FIRST_RETRY_MS;
          onFirstResult();
        }
      }
      if (!signal.aborted) lost(watch, new Error('The host ended the watch.'));
    } catch (error) {
      if (signal.aborted) return;
      lost(watch, error);
    }
    onFirstResult();
    logger.debug({ hostId: link.id, retryMs }, 'Connecting to the host again');
    await clock.sleep(retryMs, signal);
    retryMs = Math.min(retryMs * 2, MAX_RETRY_MS);
  }
}

async function takeIn({ link, reconciler, logger }: HostWatch, message: WatchSandboxesResponse, signal: AbortSignal) {
  const { event } = message;
  if (event.case === 'changed') {
    link.troubles.note(event.value);
    await reconciler.applyChange(link, event.value);
  } else if (event.case === 'snapshot') {
    link.troubles.reset(event.value.sandboxes);
    const host = await link.describe(signal);
    const isTakenIn = await reconciler.applySnapshot(link, event.value.sandboxes);
    link.setState({ kind: 'connected', host });
    // From now on whoever comes to look after the host asks for its list.
    if (!isTakenIn) await reconciler.applySnapshot(link, event.value.sandboxes);
    logger.info({ hostId: link.id, vmm: host.vmm, accelerator: host.accelerator }, 'A host is connected');
  }
}

/** Logged once for each time it is lost, not for every attempt. */
function lost({ link, logger }: HostWatch, error: unknown): void {
  const known = fromRpcError(error);
  if (link.state.kind !== 'unreachable') logger.warn({ err: error, hostId: link.id }, 'A host cannot be reached');
  link.setState({ kind: 'unreachable', error: known });
}
