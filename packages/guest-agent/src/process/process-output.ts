import type { Socket } from 'node:net';
import type { EventQueue } from '../rpc/event-queue.ts';
import { dataMessage, type OutputStream, type ProcessMessage } from './process-event.ts';

/** One descriptor that a process writes to. */
export interface OutputSource {
  readonly stream: OutputStream;
  /** Our end of it, paused. */
  readonly socket: Socket;
  /** How many bytes the kernel holds for us. */
  readonly unreadBytes: () => number;
}

/** envd's read sizes; the largest `data` event is as large. */
const CHUNK_BYTES: Record<OutputStream, number> = { stdout: 32_768, stderr: 32_768, pty: 16_384 };
/** A subscriber that has this much waiting stops the process until it has caught up. */
const QUEUE_BYTES = 128 * 1024;
/** After the process itself, its descendants may still write (`exec > >(tee log)`): until they pause for so long… */
const QUIET_MS = 250;
/** …but not for longer than this. */
const LINGER_MS = 2_000;

interface Reader extends OutputSource {
  /** Bytes that were written before the exit and not passed on yet. */
  owedBytes: number;
}

/**
 * Reads what a process writes and gives it to everyone who is attached at that moment. Nobody attached: it is read and
 * dropped, so the process never stands still for lack of a reader. Somebody slow: reading stops, the pipe fills, and
 * the process waits.
 */
export class ProcessOutput {
  readonly #readers: Reader[];
  readonly #subscribers = new Set<EventQueue<ProcessMessage>>();
  #finish: { readonly linger: boolean; readonly done: () => void; readonly endsAtMs: number } | undefined;
  #quiet: NodeJS.Timeout | undefined;
  #onChunk: ((stream: OutputStream, bytes: number) => void) | undefined;

  constructor(sources: readonly OutputSource[]) {
    this.#readers = sources.map((source) => ({ ...source, owedBytes: 0 }));
    for (const reader of this.#readers) {
      reader.socket.on('data', (chunk: Buffer<ArrayBuffer>) => this.#deliver(reader, chunk));
      // A terminal reports EIO once its last process is gone; for a pipe an error is the end as well.
      reader.socket.on('error', () => reader.socket.destroy());
      reader.socket.once('close', () => this.#checkFinished());
    }
  }

  /** Calls back with the size of each piece that is read, also when nobody is attached. */
  onChunk(listener: (stream: OutputStream, bytes: number) => void): void {
    this.#onChunk = listener;
  }

  subscribe(queue: EventQueue<ProcessMessage>): void {
    this.#subscribers.add(queue);
  }

  unsubscribe(queue: EventQueue<ProcessMessage>): void {
    this.#subscribers.delete(queue);
    this.flow();
  }

  /** Reads on, unless somebody still has to catch up. Also begins the reading. */
  flow(): void {
    if (this.#isBlocked()) return;
    for (const { socket } of this.#readers) socket.resume();
    if (this.#finish !== undefined) this.#awaitQuiet();
  }

  /**
   * Call once when the process has ended. Resolves when everything it wrote was passed on; with `linger`, descendants
   * that hold its descriptors may add to that for a moment. They never keep the command from ending.
   */
  finish(linger: boolean): Promise<void> {
    for (const reader of this.#readers) {
      // A destroyed socket has given its descriptor back and everything it read to us.
      if (!reader.socket.destroyed) reader.owedBytes = reader.unreadBytes() + reader.socket.readableLength;
    }
    return new Promise((done) => {
      this.#finish = { linger, done, endsAtMs: performance.now() + LINGER_MS };
      if (!this.#checkFinished() && !this.#isBlocked()) this.#awaitQuiet();
    });
  }

  /**
   * Lets go of the descriptors. With `drain`, descendants that still hold them (a server that was started with `&`) can
   * go on writing into the void; else their next write fails.
   */
  release(drain: boolean): void {
    this.#subscribers.clear();
    for (const { socket, stream } of this.#readers) {
      if (drain && stream !== 'pty') socket.resume();
      else socket.destroy();
    }
  }

  #isBlocked(): boolean {
    for (const queue of this.#subscribers) if (queue.queuedBytes >= QUEUE_BYTES) return true;
    return false;
  }

  #deliver(reader: Reader, chunk: Buffer<ArrayBuffer>): void {
    this.#onChunk?.(reader.stream, chunk.length);
    if (this.#subscribers.size > 0) {
      const limit = CHUNK_BYTES[reader.stream];
      for (let start = 0; start < chunk.length; start += limit) {
        const part = chunk.subarray(start, start + limit);
        const message = dataMessage(reader.stream, part);
        for (const queue of this.#subscribers) queue.push(message, part.length);
      }
      if (this.#isBlocked()) {
        for (const { socket } of this.#readers) socket.pause();
        clearTimeout(this.#quiet);
      }
    }
    if (this.#finish === undefined) return;
    reader.owedBytes -= chunk.length;
    if (!this.#checkFinished() && !this.#isBlocked()) this.#awaitQuiet();
  }

  #awaitQuiet(): void {
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => this.#onQuiet(), QUIET_MS);
  }

  /** Silence does not mean the end while the kernel still holds what the process wrote: then we are just late to read it. */
  #onQuiet(): void {
    // Asked anew: what was owed may have been flushed away (tcflush(3)) or taken by another reader of the pipe.
    const waiting = this.#readers.some(
      ({ socket, unreadBytes }) => !socket.destroyed && unreadBytes() + socket.readableLength > 0,
    );
    if (waiting) this.#awaitQuiet();
    else this.#settle();
  }

  #checkFinished(): boolean {
    if (this.#finish === undefined) return false;
    const open = this.#readers.filter(({ socket }) => !socket.destroyed);
    const owing = open.some(({ owedBytes }) => owedBytes > 0);
    const patient = this.#finish.linger && performance.now() < this.#finish.endsAtMs;
    if (open.length > 0 && (owing || patient)) return false;
    this.#settle();
    return true;
  }

  #settle(): void {
    clearTimeout(this.#quiet);
    const finish = this.#finish;
    this.#finish = undefined;
    finish?.done();
  }
}
