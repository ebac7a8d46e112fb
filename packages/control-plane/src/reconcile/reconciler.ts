import { type Sandbox, SandboxState } from '@nestbox/contract/host';
import type { HostLink } from '../hosts/host-link.ts';
import { endSandbox } from '../service/end-sandbox.ts';
import type { ServiceContext } from '../service/service-context.ts';
import { deleteSandbox, findSandbox, listSandboxesOfHost } from '../store/sandbox-repository.ts';

/**
 * Brings rows and a host's sandboxes together. A row is written before its host is asked for the sandbox, so a sandbox
 * without a row belongs to nobody; a row without a sandbox has ended.
 */
export class Reconciler {
  readonly #context: ServiceContext;

  constructor(context: ServiceContext) {
    this.#context = context;
  }

  /** Takes in the complete list of what the host had when the watch began. */
  async applySnapshot(host: HostLink, sandboxes: readonly Sandbox[]): Promise<void> {
    const present = new Set(sandboxes.filter(isPresent).map(({ sandboxId }) => sandboxId));
    // Read after the host's list was made: a row that is missing here was missing then, or has ended since.
    const rows = await listSandboxesOfHost(this.#context.db, host.id);
    const known = new Set(rows.map(({ id }) => id));
    for (const sandboxId of present) if (!known.has(sandboxId)) this.#destroyOrphan(host, sandboxId);
    for (const row of rows) {
      if (row.state === 'stopping')
        this.#context.tasks.start(`ending the sandbox ${row.id}`, () =>
          endSandbox(this.#context, row.id, 'left behind'),
        );
      // The list may be older than the row's state, so the host is asked again before a row is given up.
      else if (row.state === 'running' && !present.has(row.id))
        this.#context.tasks.start(`looking for the sandbox ${row.id}`, () => this.#forgetUnlessThere(host, row.id));
    }
  }

  async applyChange(host: HostLink, sandbox: Sandbox): Promise<void> {
    const row = await findSandbox(this.#context.db, sandbox.sandboxId);
    if (isPresent(sandbox)) {
      if (row === undefined || row.hostId !== host.id) this.#destroyOrphan(host, sandbox.sandboxId);
    } else if (sandbox.state === SandboxState.GONE && row?.hostId === host.id && row.state !== 'starting') {
      // While starting, the call that creates it gets the error and cleans up.
      await this.#forget(row.id, sandbox.reason);
    }
  }

  async #forgetUnlessThere(host: HostLink, sandboxId: string): Promise<void> {
    if (!(await host.hasSandbox(sandboxId))) await this.#forget(sandboxId, 'its host does not know it any more');
  }

  async #forget(sandboxId: string, reason: string): Promise<void> {
    this.#context.routes.forget(sandboxId);
    if (await deleteSandbox(this.#context.db, sandboxId))
      this.#context.logger.warn({ sandboxId, reason }, 'A sandbox ended by itself');
  }

  #destroyOrphan(host: HostLink, sandboxId: string): void {
    this.#context.logger.warn({ sandboxId, hostId: host.id }, 'Destroying a sandbox that belongs to nobody');
    this.#context.tasks.start(`destroying the sandbox ${sandboxId}, which belongs to nobody`, () =>
      host.destroySandbox(sandboxId),
    );
  }
}

function isPresent({ state }: Sandbox): boolean {
  return state === SandboxState.STARTING || state === SandboxState.RUNNING;
}
