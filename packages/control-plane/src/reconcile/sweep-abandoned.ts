import type { ServiceContext } from '../service/service-context.ts';
import { settleSandbox } from '../service/settle-sandbox.ts';
import {
  listAbandoned,
  listOwnTransitions,
  stopAbandonedStarts,
  type UnfinishedSandbox,
} from '../store/abandoned-repository.ts';

/**
 * Finishes what a server left behind that died: nobody waits any more for what was starting, so it ends; what was on its
 * way to a pause or back becomes what its host says. Also looks after this server's own pauses and resumptions whose end
 * it could not find out.
 */
export class AbandonedSweep {
  readonly #context: ServiceContext;
  /** What was this server's and had nobody in it the last time: one that is only just beginning is left alone. */
  #ownBefore: ReadonlySet<string> = new Set();

  constructor(context: ServiceContext) {
    this.#context = context;
  }

  /** Throws what the database says. */
  async run(): Promise<void> {
    const { db, leases } = this.#context;
    if (leases.mayJudge()) await this.#sweepHosts(await listAbandoned(db, leases.heldHosts()));
    const own = (await listOwnTransitions(db, leases.serverId)).filter(({ id }) => !this.#context.transitions.has(id));
    for (const sandbox of own) if (this.#ownBefore.has(keyOf(sandbox))) this.#settle(sandbox);
    this.#ownBefore = new Set(own.map(keyOf));
  }

  async #sweepHosts(abandoned: readonly UnfinishedSandbox[]): Promise<void> {
    const { leases, clock, logger, audit, endChanged } = this.#context;
    const starting = new Set(abandoned.filter(({ state }) => state === 'starting').map(({ hostId }) => hostId));
    for (const hostId of starting) {
      const write = leases.writer(hostId);
      if (write === undefined) continue;
      const count = await write(async (trx) => {
        const stopped = await stopAbandonedStarts(trx, hostId, clock.now());
        const reason = 'its server died while it was starting';
        await audit.writeOwn(
          trx,
          stopped.map(({ id, teamId }) => ({ operation: 'sandbox.kill', sandboxId: id, teamId, reason })),
        );
        return stopped.length;
      });
      if (count > 0) logger.warn({ hostId, count }, 'Sandboxes that were starting when their server died are ended');
    }
    if (starting.size > 0) endChanged();
    for (const sandbox of abandoned) if (sandbox.state !== 'starting') this.#settle(sandbox);
  }

  #settle({ id, hostId }: UnfinishedSandbox): void {
    const { hosts, leases, tasks, transitions } = this.#context;
    // Of one that cannot be asked now the list comes when it can.
    if (hosts.find(hostId)?.state.kind !== 'connected' || transitions.has(id)) return;
    const settle = () => settleSandbox(this.#context, id, leases.writer(hostId));
    tasks.start('finding out what became of a sandbox', settle, { sandboxId: id });
  }
}

function keyOf({ id, revision }: UnfinishedSandbox): string {
  return `${id} ${revision}`;
}
