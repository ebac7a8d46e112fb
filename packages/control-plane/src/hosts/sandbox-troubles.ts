import { type Sandbox, SandboxState } from '@nestbox/contract/host';

/** What is wrong with a sandbox that is there all the same, in the host's words. */
export interface SandboxTrouble {
  /** Of a paused one: what is known to be damaged of it. */
  readonly damage?: string;
  /** Of a running one: why its guest stands still. */
  readonly stall?: string;
}

type Told = Pick<Sandbox, 'sandboxId' | 'state' | 'reason' | 'damage'>;

const NONE: SandboxTrouble = {};

/** What a host last told to be wrong with its sandboxes. Of no use but to be shown, so it is kept in memory, of those alone that have something. */
export class SandboxTroubles {
  readonly #troubles = new Map<string, SandboxTrouble>();

  /** Of all that the host has. */
  reset(sandboxes: readonly Told[]): void {
    this.#troubles.clear();
    for (const sandbox of sandboxes) this.note(sandbox);
  }

  note(sandbox: Told): void {
    const trouble = troubleOf(sandbox);
    if (trouble === NONE) this.#troubles.delete(sandbox.sandboxId);
    else this.#troubles.set(sandbox.sandboxId, trouble);
  }

  of(sandboxId: string): SandboxTrouble {
    return this.#troubles.get(sandboxId) ?? NONE;
  }
}

function troubleOf({ state, reason, damage }: Told): SandboxTrouble {
  if (state === SandboxState.PAUSED && damage !== '') return { damage };
  if (state === SandboxState.RUNNING && reason !== '') return { stall: reason };
  return NONE;
}
