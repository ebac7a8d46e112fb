/** What the `nestbox` command exits with. `run`, `sandbox exec` and `sandbox shell` answer their command's own code. */
export const EXIT = {
  ok: 0,
  /** Something failed; standard error says what and how to mend it. */
  failure: 1,
  /** The words on the command line make no sense. */
  usage: 2,
  /** `run` and `sandbox exec`: the command's time was over (as timeout(1) answers). */
  deadline: 124,
  /** `run`, `sandbox exec` and `sandbox shell`: Nestbox failed, not the command (as docker-run(1) answers). */
  notTheCommand: 125,
} as const;
