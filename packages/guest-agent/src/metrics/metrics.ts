import { readFile, statfs } from 'node:fs/promises';
import { availableParallelism } from 'node:os';

const MIB = 1024 * 1024;

/** Answer of /metrics, in the wire's own names (envd-interface.md, section 5.5). */
export interface Metrics {
  /** Unix seconds. */
  readonly ts: number;
  readonly cpu_count: number;
  /** Percent of all processors together since the sample before, two decimals. */
  readonly cpu_used_pct: number;
  readonly mem_total: number;
  readonly mem_used: number;
  readonly mem_cache: number;
  readonly mem_total_mib: number;
  readonly mem_used_mib: number;
  readonly disk_used: number;
  readonly disk_total: number;
}

/** Jiffies since boot. */
export interface CpuTimes {
  readonly busy: number;
  readonly total: number;
}

/** Parses the first line of /proc/stat (proc_stat(5)); guest time is part of user time there already. */
export function parseCpuTimes(text: string): CpuTimes {
  const fields = /^cpu +(.*)$/m.exec(text)?.[1]?.split(' ').slice(0, 8).map(Number) ?? [];
  const total = fields.reduce((sum, value) => sum + value, 0);
  const [, , , idle = 0, ioWait = 0] = fields;
  return { busy: total - idle - ioWait, total };
}

export function cpuPercent(before: CpuTimes, now: CpuTimes): number {
  const elapsed = now.total - before.total;
  if (elapsed <= 0) return 0;
  const percent = ((now.busy - before.busy) / elapsed) * 100;
  return Math.round(Math.min(Math.max(percent, 0), 100) * 100) / 100;
}

/** Parses /proc/meminfo; bytes by name. */
export function parseMemoryInfo(text: string): ReadonlyMap<string, number> {
  const values = new Map<string, number>();
  for (const [, name, kib] of text.matchAll(/^(\w+): +(\d+) kB$/gm)) {
    if (name !== undefined) values.set(name, Number(kib) * 1024);
  }
  return values;
}

/** Samples what the whole guest uses. */
export class MetricsSampler {
  #last: CpuTimes = { busy: 0, total: 0 };

  async sample(): Promise<Metrics> {
    const [stat, memoryText, disk] = await Promise.all([
      readFile('/proc/stat', 'utf8'),
      readFile('/proc/meminfo', 'utf8'),
      statfs('/'),
    ]);
    const cpu = parseCpuTimes(stat);
    const used = cpuPercent(this.#last, cpu);
    this.#last = cpu;
    const memory = parseMemoryInfo(memoryText);
    const total = memory.get('MemTotal') ?? 0;
    const memoryUsed = total - (memory.get('MemAvailable') ?? memory.get('MemFree') ?? 0);
    return {
      ts: Math.floor(Date.now() / 1000),
      cpu_count: availableParallelism(),
      cpu_used_pct: used,
      mem_total: total,
      mem_used: memoryUsed,
      mem_cache: (memory.get('Cached') ?? 0) + (memory.get('SReclaimable') ?? 0),
      mem_total_mib: Math.floor(total / MIB),
      mem_used_mib: Math.floor(memoryUsed / MIB),
      disk_used: (disk.blocks - disk.bavail) * disk.bsize,
      disk_total: disk.blocks * disk.bsize,
    };
  }
}
