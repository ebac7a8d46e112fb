import { randomHex } from '../system/random-pool.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** One line of a sandbox's log, as the host fetches it. */
export interface LogLine {
  readonly seq: number;
  /** Unix milliseconds by the guest's clock. */
  readonly time_ms: number;
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: Readonly<Record<string, string>>;
}

/** What the host has not fetched by then is let go, oldest first. */
const MAX_BYTES = 512 * 1024;
/** Of one answer, so that it stays small. */
const MAX_ANSWER_BYTES = 256 * 1024;
/** Of a line besides its texts. */
const LINE_OVERHEAD_BYTES = 120;

interface KeptLine extends LogLine {
  readonly sandboxId: string | undefined;
  readonly bytes: number;
}

/**
 * The latest lines of the sandbox's log until the host has fetched them. They are in the memory of the guest, so they
 * survive a pause; and each carries the sandbox it is of, since a fork or a template's snapshot copies the buffer too.
 */
export class LogBuffer {
  readonly #sandboxId: () => string | undefined;
  readonly #lines: KeptLine[] = [];
  #first = 0;
  #bytes = 0;
  #nextSeq = 1;
  #id: string | undefined;

  /** `sandboxId` tells which sandbox this guest is now. */
  constructor(sandboxId: () => string | undefined) {
    this.#sandboxId = sandboxId;
  }

  add(level: LogLevel, message: string, fields: Readonly<Record<string, string>>): void {
    let bytes = LINE_OVERHEAD_BYTES + message.length;
    for (const [name, value] of Object.entries(fields)) bytes += name.length + value.length;
    const sandboxId = this.#sandboxId();
    this.#lines.push({ seq: this.#nextSeq, time_ms: Date.now(), level, message, fields, sandboxId, bytes });
    this.#nextSeq += 1;
    this.#bytes += bytes;
    while (this.#bytes > MAX_BYTES) this.#dropFirst();
  }

  /**
   * Lines of the sandbox after a position, and the position behind them. `buffer` is the one that the position is of: in
   * another one (a guest that booted anew) it means nothing.
   */
  after(buffer: string | null, seq: number, sandboxId: string): { buffer: string; next: number; lines: LogLine[] } {
    this.#id ??= randomHex(16);
    const from = buffer === this.#id ? seq : 0;
    const lines: LogLine[] = [];
    let bytes = 0;
    let next = this.#nextSeq - 1;
    for (let index = this.#first; index < this.#lines.length; index++) {
      const line = this.#lines[index];
      if (line === undefined || line.seq <= from || line.sandboxId !== sandboxId) continue;
      bytes += line.bytes;
      if (bytes > MAX_ANSWER_BYTES && lines.length > 0) {
        next = line.seq - 1;
        break;
      }
      const { seq: ownSeq, time_ms, level, message, fields } = line;
      lines.push({ seq: ownSeq, time_ms, level, message, fields });
    }
    return { buffer: this.#id, next, lines };
  }

  /** Moves the rest only now and then, so that a full buffer costs little. */
  #dropFirst(): void {
    this.#bytes -= this.#lines[this.#first]?.bytes ?? 0;
    this.#first += 1;
    if (this.#first < 256 && this.#first < this.#lines.length) return;
    this.#lines.splice(0, this.#first);
    this.#first = 0;
  }
}
