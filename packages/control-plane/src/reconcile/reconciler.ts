import { type Sandbox, SandboxState } from '@nestbox/contract/host';
import { KeyedMutex } from '@nestbox/kit';
import type { HostLink } from '../hosts/host-link.ts';
import type { Write } from '../leases.ts';
import { adoptSandbox } from '../service/adopt-sandbox.ts';
import { endSandbox } from '../service/end-sandbox.ts';
import { forgetSandbox } from '../service/forget-sandbox.ts';
import type { ServiceContext } from '../service/service-context.ts';
import { settleSandbox } from '../service/settle-sandbox.ts';
import { forEveryTeam } from '../service/team-context.ts';
import type { SandboxRecord } from '../store/sandbox-record.ts';
import { findSandbox, listSandboxesOfHost } from '../store/sandbox-repository.ts';
import { EVERY_TEAM } from '../store/team-scope.ts';

/**
 * Brings rows and a host's sandboxes together. A row is written before its host is asked for the sandbox, so when a sandbox
 * has none the row was lost, and it gets one again; a row without a sandbox has ended; and where both differ in what the
 * sandbox does, the host is right. What a host told may be older than the row, so it is asked again before a row is changed.
 * All of this is the business of the server that looks after the host.
 */
export class Reconciler {
  readonly #context: ServiceContext;
  readonly #adoptions = new KeyedMutex();

  constructor(context: ServiceContext) {
    this.#context = context;
  }

  /** From now on this server looks after the host. */
  takeOver(host: HostLink): void {
    // Of one that is not connected the list comes with its watch.
    if (host.state.kind !== 'connected') return;
    this.#context.tasks.start(`taking in what the host ${host.id} has`, async () =>
      this.applySnapshot(host, await host.listSandboxes(this.#context.stopping)),
    );
  }

  /** Takes in the complete list of what the host had when the watch began. Returns false when another server does that. */
  async applySnapshot(host: HostLink, sandboxes: readonly Sandbox[]): Promise<boolean> {
    const write = this.#context.leases.writer(host.id);
    if (write === undefined) return false;
    const present = new Map(sandboxes.filter(isPresent).map((sandbox) => [sandbox.sandboxId, sandbox]));
    // Read after the host's list was made: a row that is missing here was missing then, or has ended since.
    const rows = await listSandboxesOfHost(this.#context.db, host.id);
    const known = new Set(rows.map(({ id }) => id));
    for (const sandboxId of present.keys()) if (!known.has(sandboxId)) this.#adopt(host, sandboxId, write);
    for (const row of rows) {
      if (row.state === 'stopping')
        this.#context.tasks.start(
          'ending a sandbox that was left behind',
          () => endSandbox(forEveryTeam(this.#context), row.id, 'left behind', write),
          { sandboxId: row.id },
        );
      else if (differs(row, present.get(row.id))) this.#settle(row.id, present.get(row.id), write);
    }
    return true;
  }

  async applyChange(host: HostLink, sandbox: Sandbox): Promise<void> {
    const write = this.#context.leases.writer(host.id);
    if (write === undefined) return;
    const row = await findSandbox(this.#context.db, EVERY_TEAM, sandbox.sandboxId);
    const isOfHost = row?.hostId === host.id;
    if (isPresent(sandbox)) {
      if (row === undefined) this.#adopt(host, sandbox.sandboxId, write);
      // Also where it tells nothing new: work that is in flight may be about to write down what was so before.
      else if (isOfHost && isResting(sandbox) && (differs(row, sandbox) || this.#context.transitions.has(row.id)))
        this.#settle(row.id, sandbox, write);
    } else if (sandbox.state === SandboxState.GONE && isOfHost && row.state !== 'starting') {
      // While starting, the call that creates it gets the error and cleans up.
      await forgetSandbox(this.#context, row.id, sandbox.reason, write);
    }
  }

  /**
   * A row that this server works on is left to that work, and looked at again when it has ended: what asked the host before this news came may have
   * written down an older state after it.
   */
  #settle(sandboxId: string, told: Sandbox | undefined, write: Write): void {
    const { db, tasks, transitions } = this.#context;
    const settle = async () => {
      do {
        await transitions.ended(sandboxId);
        const row = await findSandbox(db, EVERY_TEAM, sandboxId);
        if (row === undefined || !differs(row, told)) return;
      } while (transitions.has(sandboxId));
      await settleSandbox(this.#context, sandboxId, write);
    };
    tasks.start('finding out what became of a sandbox', settle, { sandboxId });
  }

  /** One at a time for each sandbox: several of its changes may come before its row is there. */
  #adopt(host: HostLink, sandboxId: string, write: Write): void {
    const adopt = () => this.#adoptions.run(sandboxId, () => adoptSandbox(this.#context, host, sandboxId, write));
    this.#context.tasks.start('taking in a sandbox', adopt, { sandboxId });
  }
}

function isPresent({ state }: Sandbox): boolean {
  return isResting({ state }) || IN_BETWEEN.has(state);
}

const IN_BETWEEN: ReadonlySet<SandboxState> = new Set([
  SandboxState.STARTING,
  SandboxState.PAUSING,
  SandboxState.RESUMING,
]);

/** In a state in which it stays until somebody asks for another. */
function isResting({ state }: Pick<Sandbox, 'state'>): boolean {
  return state === SandboxState.RUNNING || state === SandboxState.PAUSED;
}

/** Whether a row is to be brought to what its host says; never one that is starting or stopping. */
function differs(row: SandboxRecord, sandbox: Sandbox | undefined): boolean {
  switch (row.state) {
    case 'running':
      return sandbox?.state !== SandboxState.RUNNING;
    case 'paused':
      return sandbox?.state !== SandboxState.PAUSED;
    case 'pausing':
    case 'resuming':
      return true;
    case 'starting':
    case 'stopping':
      return false;
  }
}
