/** What /init told the agent; the one mutable truth that requests are served from. */
export class AgentState {
  /** Undefined: nobody set one, every route is open. */
  accessToken: string | undefined;
  defaultUser = 'root';
  /** Used where a request's path is empty; undefined: the user's home. */
  defaultWorkdir: string | undefined;
  /** Unix time in microseconds of the newest /init that was applied. */
  lastInitAtUs = 0;
  /** Changes each time the VM was restored. */
  lifecycleId: string | undefined;

  #userEnv: Readonly<Record<string, string>> = {};
  /** A map, since an object whose properties come and go costs a restored guest much code. */
  readonly #internalEnv = new Map([['E2B_SANDBOX', 'true']]);
  #merged: Readonly<Record<string, string>> | undefined;

  /** Replaces every variable that an earlier /init set; those of the agent itself stay. They are not copied. */
  replaceUserEnv(variables: Readonly<Record<string, string>>): void {
    this.#userEnv = variables;
    this.#merged = undefined;
  }

  internalEnv(name: string): string | undefined {
    return this.#internalEnv.get(name);
  }

  /** Undefined: there is no such variable any more. */
  setInternalEnv(name: string, value: string | undefined): void {
    if (value === undefined) this.#internalEnv.delete(name);
    else this.#internalEnv.set(name, value);
    this.#merged = undefined;
  }

  /** The variables that every process of the guest gets. The agent's own win, so that no template can fake its id. */
  get globalEnv(): Readonly<Record<string, string>> {
    this.#merged ??= { ...this.#userEnv, ...Object.fromEntries(this.#internalEnv) };
    return this.#merged;
  }
}
