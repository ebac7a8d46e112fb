import type { Socket } from 'node:net';

/** The open connections of the agent's server, and which of them a restore made stale. */
export class Connections {
  readonly #open = new Set<Socket>();
  #stale: readonly Socket[] = [];

  add(socket: Socket): void {
    this.#open.add(socket);
    socket.once('close', () => this.#open.delete(socket));
  }

  /** Remembers what is open now: after the snapshot is restored, nobody is at the other end of these. */
  markStale(): void {
    this.#stale = [...this.#open];
  }

  /** Closes those; `asking` is the connection whose other end is evidently there. */
  closeStale(asking: Socket): void {
    for (const socket of this.#stale) if (socket !== asking) socket.destroy();
    this.#stale = [];
  }

  /** Closes all but one: after a restore, marked before or not, only the host's present request has another end. */
  closeAllBut(asking: Socket): void {
    for (const socket of this.#open) if (socket !== asking) socket.destroy();
    this.#stale = [];
  }
}
