import { appendFile, mkdir, readFile, rename } from 'node:fs/promises';
import { KeyedMutex } from '@nestbox/kit';
import { errnoOf } from '../storage/errno.ts';
import type { HostLayout } from '../storage/layout.ts';
import { formatLine, LOG_LEVELS, type LogEntry, type LogLevel, type LogMarks, parseLine } from './log-entry.ts';

/** A sandbox's log has two files of this size at most: the older one goes when the newer one is full. */
const MAX_FILE_BYTES = 1024 * 1024;

export interface LogQuery {
  /** Forward: lines from here on. Backward: lines up to here. Undefined: from the begin, or from the end. */
  readonly cursorMs?: number | undefined;
  readonly limit: number;
  /** Newest first. */
  readonly backward: boolean;
  readonly minLevel?: LogLevel | undefined;
  /** In the message, in whichever case. */
  readonly search?: string | undefined;
}

interface OpenLog {
  bytes: number;
  /** False: it ends in the middle of a line. */
  whole: boolean;
  marks: LogMarks;
}

/**
 * The log of each sandbox, on disk. Reading takes nothing away, so it can be repeated; host agents come and go and the file
 * goes on. Nothing here belongs to a VM, so a paused or ended sandbox has its log as well.
 */
export class SandboxLogs {
  readonly #layout: HostLayout;
  readonly #serial = new KeyedMutex();
  readonly #open = new Map<string, OpenLog>();

  constructor(layout: HostLayout) {
    this.#layout = layout;
  }

  /** `marks` say how far the sources have been read with these lines. Lines of one call get a millisecond each. */
  append(sandboxId: string, entries: readonly LogEntry[], marks: LogMarks = {}): Promise<void> {
    return this.#serial.run(sandboxId, async () => {
      if (entries.length === 0) return;
      const log = await this.#load(sandboxId);
      const merged = { ...log.marks, ...withoutUndefined(marks) };
      let text = log.whole ? '' : '\n';
      let lastMs = 0;
      for (const [index, entry] of entries.entries()) {
        lastMs = Math.max(entry.timeMs, lastMs + 1);
        text += formatLine({ ...entry, timeMs: lastMs }, index === entries.length - 1 ? merged : {});
      }
      const bytes = Buffer.byteLength(text);
      const path = this.#layout.sandboxLog(sandboxId);
      if (log.bytes > 0 && log.bytes + bytes > MAX_FILE_BYTES) {
        await rename(path, this.#layout.sandboxOldLog(sandboxId));
        log.bytes = 0;
      }
      // Not known to be whole until the write has ended.
      log.whole = false;
      await appendFile(path, text, { mode: 0o600 });
      log.whole = true;
      log.bytes += bytes;
      log.marks = merged;
    });
  }

  /** How far the sources of a sandbox's log have been read. */
  marks(sandboxId: string): Promise<LogMarks> {
    return this.#serial.run(sandboxId, async () => (await this.#load(sandboxId)).marks);
  }

  /**
   * A part of the log, in the order asked for. A page never ends between lines of the same millisecond, so that the next
   * one can begin a millisecond further on; it may be longer than the limit by these.
   */
  async read(sandboxId: string, query: LogQuery): Promise<LogEntry[]> {
    if (query.limit === 0) return [];
    const texts = await this.#serial.run(sandboxId, () => this.#readFiles(sandboxId));
    const search = query.search?.toLowerCase() ?? '';
    const { cursorMs } = query;
    const minLevel = query.minLevel === undefined ? 0 : LOG_LEVELS.indexOf(query.minLevel);
    const entries = texts
      .flatMap((text) => text.split('\n'))
      .flatMap((line) => {
        const entry = line === '' ? undefined : parseLine(line)?.entry;
        if (entry === undefined || LOG_LEVELS.indexOf(entry.level) < minLevel) return [];
        if (cursorMs !== undefined && (query.backward ? entry.timeMs > cursorMs : entry.timeMs < cursorMs)) return [];
        return search === '' || entry.message.toLowerCase().includes(search) ? [entry] : [];
      })
      // Stable: what happened in the same millisecond stays in the order of its arrival.
      .sort((a, b) => a.timeMs - b.timeMs);
    if (query.backward) entries.reverse();
    let end = Math.min(query.limit, entries.length);
    while (end < entries.length && entries[end]?.timeMs === entries[end - 1]?.timeMs) end += 1;
    return entries.slice(0, end);
  }

  /** Lets go of what is held in memory for a sandbox; its files stay. */
  forget(sandboxId: string): void {
    this.#open.delete(sandboxId);
  }

  async #load(sandboxId: string): Promise<OpenLog> {
    const known = this.#open.get(sandboxId);
    if (known !== undefined) return known;
    await mkdir(this.#layout.telemetryDir(sandboxId), { recursive: true, mode: 0o700 });
    const [older = '', newer = ''] = await this.#readFiles(sandboxId);
    let marks: LogMarks = {};
    for (const line of `${older}\n${newer}`.split('\n')) {
      if (!line.includes('"g":') && !line.includes('"c":')) continue;
      marks = { ...marks, ...withoutUndefined(parseLine(line)?.marks ?? {}) };
    }
    const log = { bytes: Buffer.byteLength(newer), whole: newer === '' || newer.endsWith('\n'), marks };
    this.#open.set(sandboxId, log);
    return log;
  }

  #readFiles(sandboxId: string): Promise<string[]> {
    return Promise.all([this.#layout.sandboxOldLog(sandboxId), this.#layout.sandboxLog(sandboxId)].map(readIfThere));
  }
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return '';
    throw error;
  }
}

function withoutUndefined({ guest, console }: LogMarks): LogMarks {
  return { ...(guest === undefined ? {} : { guest }), ...(console === undefined ? {} : { console }) };
}
