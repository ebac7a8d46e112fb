import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { VmmUnavailableError } from './vmm-api.ts';

export const SOCKET_POLL_MS = 10;
export const SOCKET_DEADLINE_MS = 5000;

/**
 * Waits until somebody listens on the API socket of a VMM that has just been started. Throws VmmUnavailableError when the
 * time is over or, at once, when the process is gone; or the signal's reason.
 */
export async function awaitSocket(
  socketPath: string,
  isAlive: () => boolean,
  options: { readonly deadlineMs?: number } = {},
  signal?: AbortSignal,
): Promise<void> {
  const deadlineMs = options.deadlineMs ?? SOCKET_DEADLINE_MS;
  const endsAt = performance.now() + deadlineMs;
  for (;;) {
    signal?.throwIfAborted();
    if (existsSync(socketPath) && (await listens(socketPath))) return;
    if (!isAlive()) throw new VmmUnavailableError('It ended before it opened its API socket.');
    if (performance.now() > endsAt)
      throw new VmmUnavailableError(`It did not open its API socket within ${deadlineMs} ms.`);
    await sleep(SOCKET_POLL_MS);
  }
}

/** Between the bind and the listen of a VMM a connection is refused. */
function listens(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
