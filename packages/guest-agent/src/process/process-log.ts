import type { LogBuffer } from '../logs/log-buffer.ts';
import type { EndEvent } from './exit-status.ts';
import type { GuestProcess, ProcessDescription } from './guest-process.ts';
import type { OutputStream } from './process-event.ts';

/** A command may be as long as the kernel allows; this much tells which one it was. */
const MAX_COMMAND_LENGTH = 2048;
/** How often a process that goes on writing is told of. */
const OUTPUT_INTERVAL_MS = 2000;

/** Writes down what envd writes down of a process: its start, how much it wrote (never what), its end. */
export class ProcessLog {
  readonly #logs: LogBuffer;

  constructor(logs: LogBuffer) {
    this.#logs = logs;
  }

  /** Begins with a process that has just started; the returned function is called with its end. */
  begin(process: GuestProcess, timeoutMs: number | undefined): (end: EndEvent) => void {
    const { pid } = process;
    this.#started(pid, process.description, timeoutMs);
    const written = new Map<OutputStream, number>();
    let flushAtMs = performance.now() + OUTPUT_INTERVAL_MS;
    const flush = (message: string) => {
      for (const [stream, bytes] of written) this.#wrote(pid, stream, bytes, message);
      written.clear();
    };
    process.onOutput((stream, bytes) => {
      written.set(stream, (written.get(stream) ?? 0) + bytes);
      const nowMs = performance.now();
      if (nowMs < flushAtMs) return;
      flushAtMs = nowMs + OUTPUT_INTERVAL_MS;
      flush('Streaming process event');
    });
    return (end) => {
      flush('Streaming process event (flush)');
      this.#ended(pid, end);
    };
  }

  /** Of a program that is not there. */
  failed(pid: number, description: ProcessDescription, timeoutMs: number | undefined, end: EndEvent): void {
    this.#started(pid, description, timeoutMs);
    this.#ended(pid, end);
  }

  #started(pid: number, { cmd, args }: ProcessDescription, timeoutMs: number | undefined): void {
    this.#logs.add('info', `Process with pid ${pid} started`, {
      logger: 'process',
      event_type: 'process_start',
      pid: `${pid}`,
      command: shorten([cmd, ...args].join(' ')),
      ...(timeoutMs === undefined ? {} : { request_timeout_ms: `${timeoutMs}` }),
    });
  }

  #wrote(pid: number, stream: OutputStream, bytes: number, message: string): void {
    this.#logs.add('info', message, { logger: 'process', event_type: stream, pid: `${pid}`, data_bytes: `${bytes}` });
  }

  #ended(pid: number, end: EndEvent): void {
    this.#logs.add('info', `Process with pid ${pid} ended`, {
      logger: 'process',
      event_type: 'process_end',
      pid: `${pid}`,
      process_result: JSON.stringify(end),
    });
  }
}

function shorten(text: string): string {
  return text.length > MAX_COMMAND_LENGTH ? `${text.slice(0, MAX_COMMAND_LENGTH)}…` : text;
}
