import { NestboxError } from '@nestbox/contract';
import type { Sandbox } from '@nestbox/contract/http';
import { ControlApi } from './control-api.ts';
import type { Endpoints } from './endpoints.ts';
import type { GuestAddress } from './guest-agent.ts';

/** How long a sandbox lives, at least, that was resumed to be used. */
const RESUMED_LIFE_SEC = 300;

export interface LocateOptions {
  /** Resumes a paused sandbox instead of refusing it. */
  readonly resume?: boolean;
}

/**
 * Asks the server how the guest agent of a sandbox is reached. The time to live of a running one stays as it is. Throws
 * NestboxError: sandbox_not_found, and sandbox_paused for one that the request to its guest agent would not resume.
 */
export async function locateSandbox(
  endpoints: Endpoints,
  sandboxId: string,
  options: LocateOptions,
  signal?: AbortSignal,
): Promise<GuestAddress> {
  const api = new ControlApi(endpoints);
  const detail = await api.getSandbox(sandboxId, signal);
  if (detail.state !== 'paused') return guestAddress(detail);
  if (options.resume)
    return guestAddress((await api.connectSandbox(sandboxId, { timeoutSec: RESUMED_LIFE_SEC }, signal)).sandbox);
  if (detail.lifecycle?.autoResume) return guestAddress(detail);
  throw new NestboxError(
    'sandbox_paused',
    `The sandbox ${detail.sandboxID} is paused. Resume it first: nestbox sandbox resume ${detail.sandboxID} ` +
      '(or give --resume in front of its id).',
  );
}

function guestAddress(sandbox: Pick<Sandbox, 'sandboxID' | 'envdAccessToken' | 'domain'>): GuestAddress {
  return {
    sandboxId: sandbox.sandboxID,
    accessToken: sandbox.envdAccessToken,
    domain: sandbox.domain ?? undefined,
  };
}
