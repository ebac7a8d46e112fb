import { NestboxError } from '@nestbox/contract';
import type { Sandbox } from '@nestbox/contract/http';
import type { ControlApi, NewSandbox } from './control-api.ts';

/** A sandbox that must not outlive us, not even when we are killed, ends this long after the last sign of life from us. */
const LEASE_SEC = 60;
const RENEW_EVERY_MS = 20_000;

/** Makes a sandbox that lives as long as the result is not disposed of. Disposing kills it. */
export async function keepSandboxAlive(
  api: ControlApi,
  request: Omit<NewSandbox, 'timeoutSec'>,
): Promise<{ readonly sandbox: Sandbox } & AsyncDisposable> {
  const sandbox = await api.createSandbox({ ...request, timeoutSec: LEASE_SEC });
  const renewal = setInterval(() => {
    // One that fails is made good by the next; when all fail, the server is gone and the command's own stream tells.
    api.setSandboxTimeout(sandbox.sandboxID, LEASE_SEC).catch(() => {});
  }, RENEW_EVERY_MS);
  return {
    sandbox,
    async [Symbol.asyncDispose]() {
      clearInterval(renewal);
      await api.killSandbox(sandbox.sandboxID).catch((error: unknown) => {
        // It may have ended by itself.
        if (!(error instanceof NestboxError && error.httpStatus === 404)) throw error;
      });
    },
  };
}
