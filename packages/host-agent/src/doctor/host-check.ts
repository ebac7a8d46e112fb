/** One need of this machine, as `nestbox doctor` shows it. */
export interface HostCheck {
  /** Stable word for programs, e.g. `kvm`. */
  readonly id: string;
  readonly name: string;
  /** `warning`: sandboxes run, but something will be slow or missing. */
  readonly state: 'ok' | 'warning' | 'failed';
  /** What was found here. */
  readonly found: string;
  /** Why it matters. */
  readonly why: string;
  /** What to do; undefined when it is ok. */
  readonly mend: string | undefined;
}
