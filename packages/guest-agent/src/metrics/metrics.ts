import { readFileSync, statfsSync } from 'node:fs';
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

/** The bytes that /proc/meminfo (proc_meminfo(5)) tells for a name; undefined when it does not. */
export function memoryBytes(text: string, name: string): number | undefined {
  // Each line begins behind another; the first one does so too this way.
  const lines = `\n${text}`;
  const at = lines.indexOf(`\n${name}:`);
  if (at < 0) return undefined;
  const kib = Number.parseInt(lines.slice(at + name.length + 2), 10);
  return Number.isFinite(kib) ? kib * 1024 : undefined;
}

/**
 * Samples what the whole guest uses. Synchronous and plain: in a guest that was just restored the first sample is paid for in code that runs
 * for the first time, and a search for three words in a short text is less of it than threads and regular expressions are.
 */
export class MetricsSampler {
  #last: CpuTimes = { busy: 0, total: 0 };

  sample(): Metrics {
    const cpu = parseCpuTimes(readFileSync('/proc/stat', 'utf8'));
    const used = cpuPercent(this.#last, cpu);
    this.#last = cpu;
    const memory = readFileSync('/proc/meminfo', 'utf8');
    const disk = statfsSync('/');
    const total = memoryBytes(memory, 'MemTotal') ?? 0;
    const memoryUsed = total - (memoryBytes(memory, 'MemAvailable') ?? memoryBytes(memory, 'MemFree') ?? 0);
    return {
      ts: Math.floor(Date.now() / 1000),
      cpu_count: availableParallelism(),
      cpu_used_pct: used,
      mem_total: total,
      mem_used: memoryUsed,
      mem_cache: (memoryBytes(memory, 'Cached') ?? 0) + (memoryBytes(memory, 'SReclaimable') ?? 0),
      mem_total_mib: Math.floor(total / MIB),
      mem_used_mib: Math.floor(memoryUsed / MIB),
      disk_used: (disk.blocks - disk.bavail) * disk.bsize,
      disk_total: disk.blocks * disk.bsize,
    };
  }
}
