/** What tells an idle sandbox from a busy one. */
export class Activity {
  /** Unix milliseconds of the last request that a user could have made; 0 when there was none. */
  lastRequestAtMs = 0;
  /** Requests that are being answered now, those of the host itself left out. */
  openRequests = 0;
  /** Counts the restores, so that the end of a request from before one changes nothing. */
  #era = 0;

  /** Counts one request; call the returned function once when it has ended. */
  begin(): () => void {
    this.lastRequestAtMs = Date.now();
    this.openRequests += 1;
    const era = this.#era;
    let open = true;
    return () => {
      if (!open || era !== this.#era) return;
      open = false;
      this.openRequests -= 1;
      this.lastRequestAtMs = Date.now();
    };
  }

  /** After a restore nothing that was asked before counts: nobody waits for it any more. */
  forget(): void {
    this.#era += 1;
    this.openRequests = 0;
    this.lastRequestAtMs = 0;
  }
}
