import { ControlApi } from './control-api.ts';
import type { Endpoints } from './endpoints.ts';
import type { GuestAddress } from './guest-agent.ts';

/** Asks the server how the guest agent of a running sandbox is reached. Its time to live stays as it is. */
export async function locateSandbox(
  endpoints: Endpoints,
  sandboxId: string,
  signal?: AbortSignal,
): Promise<GuestAddress> {
  const detail = await new ControlApi(endpoints).getSandbox(sandboxId, signal);
  return { sandboxId: detail.sandboxID, accessToken: detail.envdAccessToken, domain: detail.domain ?? undefined };
}
