import { Agent, type AgentOptions, type ClientRequestArgs } from 'node:http';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { GuestDeadlineError } from './guest-error.ts';

/** Limits of every connection to a guest agent. Source: host-system specification, "Client of the guest agent". */
export const DIAL_TIMEOUT_MS = 10_000;
export const KEEP_ALIVE_MS = 30_000;
export const HEADERS_TIMEOUT_MS = 30_000;
export const IDLE_TIMEOUT_MS = 90_000;
export const MAX_IDLE_PER_HOST = 10;
export const UNARY_TIMEOUT_MS = 120_000;

export interface PoolOptions {
  readonly dialTimeoutMs?: number;
  readonly idleTimeoutMs?: number;
}

/** Keeps connections of one kind of call. Two pools never share one, so a stream of output cannot hold up a short call. */
export class ConnectionPool extends Agent {
  readonly #dialTimeoutMs: number;

  constructor(options: PoolOptions = {}) {
    const agentOptions: AgentOptions = {
      keepAlive: true,
      keepAliveMsecs: KEEP_ALIVE_MS,
      maxFreeSockets: MAX_IDLE_PER_HOST,
      // Node's agent closes a socket after this time only while nobody uses it.
      timeout: options.idleTimeoutMs ?? IDLE_TIMEOUT_MS,
    };
    super(agentOptions);
    this.#dialTimeoutMs = options.dialTimeoutMs ?? DIAL_TIMEOUT_MS;
  }

  override createConnection(options: ClientRequestArgs): Duplex {
    const socket = connect({ host: options.host ?? '', port: Number(options.port), noDelay: true });
    const timer = setTimeout(
      () => socket.destroy(new GuestDeadlineError('connect', this.#dialTimeoutMs)),
      this.#dialTimeoutMs,
    );
    const settle = () => clearTimeout(timer);
    socket.once('connect', settle).once('close', settle);
    return socket;
  }

  /** Closes what nobody uses now, all or all but one. */
  closeIdle(kept?: Socket): void {
    for (const socket of Object.values(this.freeSockets).flatMap((sockets) => sockets ?? []))
      if (socket !== kept) socket.destroy();
  }
}
