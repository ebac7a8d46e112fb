import { writeSync } from 'node:fs';
import { Socket } from 'node:net';

/** What a process reads. `write` resolves once the kernel has taken all bytes; writes keep their order. */
export interface ProcessInput {
  write(bytes: Uint8Array): Promise<void>;
  /** Lets the process read the end of its input; closing twice is harmless. */
  close(): void;
  /** Gives up what is still waiting, when the process is over. */
  release(): void;
}

/** Input that waits in the agent because the process does not read it. */
const MAX_WAITING_BYTES = 16 * 1024 * 1024;

function tooMuchWaiting(): Error {
  return new Error(`the process has not read ${MAX_WAITING_BYTES} bytes of earlier input`);
}

/** The pipe to a process's standard input. */
export class PipeInput implements ProcessInput {
  readonly #socket: Socket;

  /** Takes over `fd`. */
  constructor(fd: number) {
    this.#socket = new Socket({ fd, readable: false, writable: true });
    // Each failed write reports by its own callback.
    this.#socket.on('error', () => this.#socket.destroy());
  }

  write(bytes: Uint8Array): Promise<void> {
    if (this.#socket.writableLength + bytes.length > MAX_WAITING_BYTES && this.#socket.writableLength > 0) {
      return Promise.reject(tooMuchWaiting());
    }
    return new Promise((resolve, reject) => {
      this.#socket.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  }

  close(): void {
    this.#socket.end();
  }

  release(): void {
    this.#socket.destroy();
  }
}

const RETRY_MIN_MS = 2;
const RETRY_MAX_MS = 100;

/**
 * The keyboard of a pseudo-terminal. Writes go to the non-blocking master directly: libuv treats a terminal as blocking
 * and would spin while a program does not read its input.
 */
export class TerminalInput implements ProcessInput {
  readonly #fd: number;
  #waitingBytes = 0;
  #closed: boolean = false;
  #last: Promise<void> = Promise.resolve();

  constructor(masterFd: number) {
    this.#fd = masterFd;
  }

  write(bytes: Uint8Array): Promise<void> {
    if (this.#waitingBytes + bytes.length > MAX_WAITING_BYTES && this.#waitingBytes > 0) {
      return Promise.reject(tooMuchWaiting());
    }
    this.#waitingBytes += bytes.length;
    const done = this.#last.then(() => this.#writeAll(bytes));
    this.#last = done
      .catch(() => {})
      .finally(() => {
        this.#waitingBytes -= bytes.length;
      });
    return done;
  }

  close(): void {
    throw new Error('cannot close stdin for PTY process');
  }

  /** The descriptor belongs to whoever reads the terminal and is closed there. */
  release(): void {
    this.#closed = true;
  }

  async #writeAll(bytes: Uint8Array): Promise<void> {
    let offset = 0;
    let retryMs = RETRY_MIN_MS;
    while (offset < bytes.length) {
      if (this.#closed) throw new Error('the terminal is closed');
      const written = this.#tryWrite(bytes.subarray(offset));
      offset += written;
      if (written > 0) {
        retryMs = RETRY_MIN_MS;
      } else {
        await new Promise((resolve) => setTimeout(resolve, retryMs));
        retryMs = Math.min(retryMs * 2, RETRY_MAX_MS);
      }
    }
  }

  #tryWrite(bytes: Uint8Array): number {
    try {
      return writeSync(this.#fd, bytes);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return 0;
      throw error;
    }
  }
}
