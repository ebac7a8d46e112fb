/** What the choice between hosts rests on. */
export interface HostLoad {
  readonly hostId: string;
  /** Memory of the machine. */
  readonly memoryMib: number;
  /** Memory promised to sandboxes, those about to start included. */
  readonly committedMib: number;
}

/**
 * The host whose memory is promised to the smallest part; with equals, the first. Whether a sandbox still fits is the
 * host's own decision (`host_capacity`): it knows what else runs there. Undefined when there are no hosts.
 */
export function pickHost(loads: readonly HostLoad[]): string | undefined {
  let best: HostLoad | undefined;
  for (const load of loads) if (best === undefined || share(load) < share(best)) best = load;
  return best?.hostId;
}

function share(load: HostLoad): number {
  return load.memoryMib > 0 ? load.committedMib / load.memoryMib : Number.POSITIVE_INFINITY;
}
