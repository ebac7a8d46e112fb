/** How long a VMM with an HTTP API is waited for. */
export interface ApiDeadlines {
  /** For the API socket to appear. */
  readonly socketMs: number;
  /** Cuts the deadline of every call. */
  readonly callMs: number;
}

export const DEFAULT_API_DEADLINES: ApiDeadlines = { socketMs: 5000, callMs: Number.POSITIVE_INFINITY };
