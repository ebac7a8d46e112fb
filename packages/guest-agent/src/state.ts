/** What /init told the agent; the one mutable truth that requests are served from. */
export class AgentState {
  /** Undefined: nobody set one, every route is open. */
  accessToken: string | undefined;
  defaultUser = 'root';
  /** Used where a request's path is empty; undefined: the user's home. */
  defaultWorkdir: string | undefined;
  /** Unix time in nanoseconds of the newest /init that was applied. */
  lastInitAtNs = 0n;
  /** Changes each time the VM was restored. */
  lifecycleId: string | undefined;

  #userEnv: Readonly<Record<string, string>> = {};
  readonly #internalEnv: Record<string, string> = { E2B_SANDBOX: 'true' };
  #merged: Readonly<Record<string, string>> | undefined;

  /** Replaces every variable that an earlier /init set; those of the agent itself stay. */
  replaceUserEnv(variables: Readonly<Record<string, string>>): void {
    this.#userEnv = { ...variables };
    this.#merged = undefined;
  }

  internalEnv(name: string): string | undefined {
    return this.#internalEnv[name];
  }

  /** Undefined: there is no such variable any more. */
  setInternalEnv(name: string, value: string | undefined): void {
    if (value === undefined) delete this.#internalEnv[name];
    else this.#internalEnv[name] = value;
    this.#merged = undefined;
  }

  /** The variables that every process of the guest gets. The agent's own win, so that no template can fake its id. */
  get globalEnv(): Readonly<Record<string, string>> {
    this.#merged ??= { ...this.#userEnv, ...this.#internalEnv };
    return this.#merged;
  }
}
