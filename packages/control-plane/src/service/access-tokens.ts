import { createHmac } from 'node:crypto';

/**
 * The two secrets of a sandbox. Both derive from the seed and the id, so that connect can tell them again and nothing
 * secret is stored. Source of the two formulas: the wire that the clients know (docs/compatibility.md).
 */
export class AccessTokens {
  readonly #seed: string;

  constructor(seed: string) {
    this.#seed = seed;
  }

  /** What the guest agent asks for in `X-Access-Token`: 64 hexadecimal digits. */
  guestToken(sandboxId: string): string {
    return this.#sign(sandboxId);
  }

  /** What the edge asks for in `e2b-traffic-access-token` when the sandbox's traffic is not public. */
  trafficToken(sandboxId: string): string {
    return this.#sign(`sandbox-traffic-${sandboxId}`);
  }

  #sign(text: string): string {
    return createHmac('sha256', this.#seed).update(text).digest('hex');
  }
}
