import { type Contents, NOTHING_YET } from './walk-stage.ts';

/** What is known of a sandbox. */
export interface KnownSandbox {
  readonly state: 'running' | 'paused';
  /** Of a paused one: what it will have when it runs again. */
  readonly contents: Contents;
  readonly onTimeout: 'kill' | 'pause';
}

/** What a walk knows of everything that it has made. */
export class WalkModel {
  readonly sandboxes = new Map<string, KnownSandbox>();
  /** By name. */
  readonly snapshots = new Map<string, Contents>();
  /** Ids of sandboxes that are gone, and names of snapshots that were deleted and not taken again. */
  readonly gone: string[] = [];
  readonly deleted = new Set<string>();

  put(sandboxId: string, after: KnownSandbox | 'gone'): void {
    if (after !== 'gone') this.sandboxes.set(sandboxId, after);
    else if (this.sandboxes.delete(sandboxId)) this.gone.push(sandboxId);
  }

  keep(name: string, contents: Contents): void {
    this.snapshots.set(name, contents);
    this.deleted.delete(name);
  }

  drop(name: string): void {
    this.snapshots.delete(name);
    this.deleted.add(name);
  }

  /** Of `base`, which is always there, too. */
  contentsOf(template: string): Contents | undefined {
    return template === 'base' ? NOTHING_YET : this.snapshots.get(template);
  }

  states(): Record<string, string> {
    return Object.fromEntries([...this.sandboxes].map(([id, { state }]) => [id, state]));
  }
}

export function withoutMemory(contents: Contents): Contents {
  return { ...contents, memory: '' };
}
