import { requireConsoleSpace, watchBoot } from '../boot-watchdog.ts';
import { VmmUnavailableError } from './vmm-api.ts';

/**
 * Waits for a guest's sign of life. False when it showed none in time. Throws VmmUnavailableError when its VMM ended, host_disk_full, or
 * the signal's reason.
 */
export async function awaitGuest(boot: Parameters<typeof watchBoot>[0], signal?: AbortSignal): Promise<boolean> {
  const outcome = await watchBoot(boot, signal);
  if (outcome === 'gone') throw new VmmUnavailableError('It ended while the guest booted.');
  if (outcome === 'silent') await requireConsoleSpace(boot.consolePath);
  signal?.throwIfAborted();
  return outcome === 'alive';
}
