/** Memory of a machine; sizes in bytes, huge pages by their number. */
export interface MemoryUse {
  readonly totalBytes: number;
  /** What new processes cannot have without swapping. */
  readonly usedBytes: number;
  readonly hugePagesTotal: number;
  readonly hugePagesUsed: number;
  /** Promised, and not taken yet. */
  readonly hugePagesReserved: number;
  /** Of the default size; 0 where the kernel has none. */
  readonly hugePageSizeBytes: number;
}

/** Reads /proc/meminfo; 0 for what is not there. Source: proc_meminfo(5). */
export function parseMemoryUse(meminfo: string): MemoryUse {
  const values = new Map<string, number>();
  for (const [, name, number, unit] of meminfo.matchAll(/^(\w+):\s+(\d+)( kB)?$/gm))
    if (name !== undefined) values.set(name, Number(number) * (unit === undefined ? 1 : 1024));
  const amountOf = (name: string) => values.get(name) ?? 0;
  const totalBytes = amountOf('MemTotal');
  return {
    totalBytes,
    usedBytes: Math.max(0, totalBytes - amountOf('MemAvailable')),
    hugePagesTotal: amountOf('HugePages_Total'),
    hugePagesUsed: Math.max(0, amountOf('HugePages_Total') - amountOf('HugePages_Free')),
    hugePagesReserved: amountOf('HugePages_Rsvd'),
    hugePageSizeBytes: amountOf('Hugepagesize'),
  };
}
