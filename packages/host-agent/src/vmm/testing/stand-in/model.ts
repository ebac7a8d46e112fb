import type { GuestMemory } from './guest-memory.ts';

export interface Reply {
  readonly status: number;
  readonly body?: unknown;
  /** The request should never have been sent. */
  readonly violation?: string;
}

/** How a VMM behaves behind its API. Throws ModelFault. */
export interface VmmModel {
  handle(method: string, path: string, body: unknown): Reply;
  readonly memory: GuestMemory | undefined;
}

/** A refusal. */
export class ModelFault extends Error {
  override readonly name = 'ModelFault';
  readonly reply: Reply;

  constructor(reply: Reply, message: string) {
    super(message);
    this.reply = reply;
  }
}

/** As Firecracker refuses. */
export function fault(message: string, status = 400): ModelFault {
  return new ModelFault({ status, body: { fault_message: message } }, message);
}

/** A request that no VMM of this version should be sent. */
export function violation(message: string): ModelFault {
  return new ModelFault({ status: 400, body: { fault_message: message }, violation: message }, message);
}
