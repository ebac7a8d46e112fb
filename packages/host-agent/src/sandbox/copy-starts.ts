import { NestboxError } from '@nestbox/contract';
import type { CreatePlan } from './create-plan.ts';
import type { HostState } from './host-state.ts';
import type { SandboxIdentity } from './live-sandbox.ts';
import type { PendingCreates } from './pending-creates.ts';
import type { SandboxInfo } from './sandbox.ts';
import { startCopy } from './start-sandbox.ts';
import type { TraceBook } from './trace.ts';

/** Starts the copies of a fork: each is a create of its own, which whoever ends the copy ends. */
export class CopyStarts {
  readonly #host: HostState;
  readonly #creates: PendingCreates;
  readonly #traces: TraceBook;

  constructor(host: HostState, creates: PendingCreates, traces: TraceBook) {
    this.#host = host;
    this.#creates = creates;
    this.#traces = traces;
  }

  /** Throws `conflict` when one belongs to a sandbox already, or soon. From then on whoever ends a copy ends it, also before it starts. */
  announce(sandboxIds: readonly string[]): Disposable {
    const seen = new Set<string>();
    for (const sandboxId of sandboxIds) {
      if (seen.has(sandboxId)) throw isTaken(sandboxId);
      this.#requireNew(sandboxId);
      seen.add(sandboxId);
    }
    return this.#creates.announce(sandboxIds);
  }

  async start(identity: SandboxIdentity, plan: CreatePlan): Promise<SandboxInfo> {
    const { spec } = identity;
    if (this.#host.stopping.aborted) throw new NestboxError('host_unavailable', 'This host agent is stopping.');
    // Somebody may have been quicker while the source was copied.
    this.#requireNew(spec.sandboxId);
    const copy = this.#creates.begin(spec, (cancelled) =>
      this.#host.serial.run(spec.sandboxId, () =>
        this.#traces.record(spec.sandboxId, 'create', (own) => startCopy(this.#host, identity, plan, cancelled, own)),
      ),
    );
    return (await copy).result;
  }

  #requireNew(sandboxId: string): void {
    const { table, warm } = this.#host;
    if (table.get(sandboxId) !== undefined || this.#creates.has(sandboxId) || warm.hasId(sandboxId))
      throw isTaken(sandboxId);
  }
}

function isTaken(sandboxId: string): NestboxError {
  return new NestboxError('conflict', `There is a sandbox ${sandboxId} already.`);
}
