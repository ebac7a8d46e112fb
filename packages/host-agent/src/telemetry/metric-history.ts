import { appendFile, mkdir, readFile, truncate } from 'node:fs/promises';
import { KeyedMutex, replaceFile } from '@nestbox/kit';
import { errnoOf } from '../storage/errno.ts';
import type { HostLayout } from '../storage/layout.ts';

/** What a guest used at one moment. */
export interface MetricSample {
  readonly timestampMs: number;
  readonly cpuCount: number;
  readonly cpuUsedPct: number;
  readonly memUsedBytes: number;
  readonly memTotalBytes: number;
  readonly memCacheBytes: number;
  readonly diskUsedBytes: number;
  readonly diskTotalBytes: number;
}

const FIELDS = [
  'timestampMs',
  'cpuCount',
  'cpuUsedPct',
  'memUsedBytes',
  'memTotalBytes',
  'memCacheBytes',
  'diskUsedBytes',
  'diskTotalBytes',
] as const satisfies readonly (keyof MetricSample)[];
const RECORD_BYTES = FIELDS.length * 8;

/** A day, at one sample in ten seconds. */
export const MAX_SAMPLES = 8640;
/** The file may grow beyond that by so much before it is written anew. */
const SLACK_SAMPLES = 1000;

interface OpenHistory {
  samples: number;
  latest: MetricSample | undefined;
}

/** The samples of each sandbox, on disk: records of 64 bytes, eight little-endian doubles in the order of FIELDS. */
export class MetricHistory {
  readonly #layout: HostLayout;
  readonly #serial = new KeyedMutex();
  readonly #open = new Map<string, OpenHistory>();

  constructor(layout: HostLayout) {
    this.#layout = layout;
  }

  append(sandboxId: string, sample: MetricSample): Promise<void> {
    return this.#serial.run(sandboxId, async () => {
      const history = await this.#load(sandboxId);
      const path = this.#layout.sandboxMetrics(sandboxId);
      if (history.samples >= MAX_SAMPLES + SLACK_SAMPLES) {
        const kept = (await readFile(path)).subarray(-(MAX_SAMPLES - 1) * RECORD_BYTES);
        await replaceFile(path, Buffer.concat([kept, encode(sample)]));
        history.samples = MAX_SAMPLES;
      } else {
        await appendFile(path, encode(sample), { mode: 0o600 });
        history.samples += 1;
      }
      history.latest = sample;
    });
  }

  /** Undefined when there is none. */
  latest(sandboxId: string): Promise<MetricSample | undefined> {
    return this.#serial.run(sandboxId, async () => (await this.#load(sandboxId)).latest);
  }

  /** Oldest first, both bounds inclusive. More than `maxPoints` are averaged over equal numbers of samples. */
  async read(
    sandboxId: string,
    range: { readonly startMs: number; readonly endMs: number; readonly maxPoints: number },
  ): Promise<MetricSample[]> {
    const bytes = await this.#serial.run(sandboxId, () => readIfThere(this.#layout.sandboxMetrics(sandboxId)));
    const samples: MetricSample[] = [];
    for (let at = 0; at + RECORD_BYTES <= bytes.length; at += RECORD_BYTES) {
      const sample = decode(bytes, at);
      if (sample.timestampMs >= range.startMs && sample.timestampMs <= range.endMs) samples.push(sample);
    }
    return thinOut(samples, range.maxPoints);
  }

  /** Lets go of what is held in memory for a sandbox; its file stays. */
  forget(sandboxId: string): void {
    this.#open.delete(sandboxId);
  }

  /** A crash may have cut the last record; what follows must begin where a record does. */
  async #load(sandboxId: string): Promise<OpenHistory> {
    const known = this.#open.get(sandboxId);
    if (known !== undefined) return known;
    await mkdir(this.#layout.telemetryDir(sandboxId), { recursive: true, mode: 0o700 });
    const path = this.#layout.sandboxMetrics(sandboxId);
    const bytes = await readIfThere(path);
    const samples = Math.floor(bytes.length / RECORD_BYTES);
    if (samples * RECORD_BYTES !== bytes.length) await truncate(path, samples * RECORD_BYTES);
    const history = { samples, latest: samples === 0 ? undefined : decode(bytes, (samples - 1) * RECORD_BYTES) };
    this.#open.set(sandboxId, history);
    return history;
  }
}

/** Processors, memory and disk in a group are its averages; its time is that of its last sample. */
export function thinOut(samples: readonly MetricSample[], maxPoints: number): MetricSample[] {
  if (samples.length <= maxPoints) return [...samples];
  const size = Math.ceil(samples.length / Math.max(1, maxPoints));
  const groups: MetricSample[] = [];
  for (let at = 0; at < samples.length; at += size) groups.push(average(samples.slice(at, at + size)));
  return groups;
}

function average(group: readonly MetricSample[]): MetricSample {
  const mean = (field: keyof MetricSample) => group.reduce((sum, sample) => sum + sample[field], 0) / group.length;
  const last = group.at(-1);
  return {
    timestampMs: last?.timestampMs ?? 0,
    cpuCount: last?.cpuCount ?? 0,
    cpuUsedPct: Math.round(mean('cpuUsedPct') * 100) / 100,
    memUsedBytes: Math.round(mean('memUsedBytes')),
    memTotalBytes: last?.memTotalBytes ?? 0,
    memCacheBytes: Math.round(mean('memCacheBytes')),
    diskUsedBytes: Math.round(mean('diskUsedBytes')),
    diskTotalBytes: last?.diskTotalBytes ?? 0,
  };
}

function encode(sample: MetricSample): Buffer {
  const record = Buffer.alloc(RECORD_BYTES);
  for (const [index, field] of FIELDS.entries()) record.writeDoubleLE(sample[field], index * 8);
  return record;
}

function decode(bytes: Buffer, at: number): MetricSample {
  const value = (index: number) => bytes.readDoubleLE(at + index * 8);
  return {
    timestampMs: value(0),
    cpuCount: value(1),
    cpuUsedPct: value(2),
    memUsedBytes: value(3),
    memTotalBytes: value(4),
    memCacheBytes: value(5),
    diskUsedBytes: value(6),
    diskTotalBytes: value(7),
  };
}

async function readIfThere(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return Buffer.alloc(0);
    throw error;
  }
}
