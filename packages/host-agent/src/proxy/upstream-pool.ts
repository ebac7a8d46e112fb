import { Agent, type ClientRequestArgs } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { connectTapped } from '@nestbox/kit';

/** Attempts to reach a port, since the guest's port forwarder can be a second behind the application. */
export const DIAL_ATTEMPTS = 3;
/** 350 ms, then 700 ms: together a little more than the forwarder's period of one second. */
export const DIAL_BACKOFF_MS = 350;
const DIAL_TIMEOUT_MS = 10_000;
const IDLE_TIMEOUT_MS = 90_000;
const MAX_IDLE_PER_PORT = 64;

/** One chunk of a body: the more, the fewer times both sides stop for each other. */
export const BODY_BUFFER_BYTES = 256 * 1024;

export type DialFailure = 'refused' | 'unreachable';

/** No connection to the port after every attempt. `refused`: the guest answered that nobody listens. */
export class DialError extends Error {
  override readonly name = 'DialError';
  readonly failure: DialFailure;

  constructor(failure: DialFailure, options: { cause: unknown }) {
    super(`cannot connect: ${options.cause instanceof Error ? options.cause.message : String(options.cause)}`, options);
    this.failure = failure;
  }
}

export interface UpstreamPoolOptions {
  readonly dialBackoffMs?: number;
  /** TLS, with whatever certificate the application has: a sandbox's own address is what it is known by. */
  readonly secure?: boolean;
}

/** The connections to one sandbox, kept apart by port. Dropped as a whole when the sandbox goes. */
export class UpstreamPool extends Agent {
  readonly #backoffMs: number;
  readonly #secure: boolean;
  readonly #closed = new AbortController();

  constructor(options: UpstreamPoolOptions = {}) {
    super({ keepAlive: true, maxFreeSockets: MAX_IDLE_PER_PORT, timeout: IDLE_TIMEOUT_MS });
    this.#backoffMs = options.dialBackoffMs ?? DIAL_BACKOFF_MS;
    this.#secure = options.secure === true;
  }

  override createConnection(
    options: ClientRequestArgs,
    callback?: (error: Error | null, socket: Duplex) => void,
  ): undefined {
    this.#connect(options.host ?? '', Number(options.port)).then(
      (socket) => callback?.(null, socket),
      // Node calls back with the error alone; its types ask for a socket all the same.
      (error: Error) => Reflect.apply(callback ?? (() => {}), undefined, [error]),
    );
    return undefined;
  }

  async #connect(host: string, port: number): Promise<Socket> {
    const signal = this.#closed.signal;
    const socket = await dial(host, port, this.#backoffMs, signal);
    return this.#secure ? await secured(socket, signal) : socket;
  }

  /** Ends idle and used connections, and attempts under way. */
  override destroy(): void {
    this.#closed.abort();
    super.destroy();
  }
}

/** Throws DialError when the other side does not speak TLS, or not in time. */
function secured(socket: Socket, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const secure = connectTls({ socket, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] });
    const fail = (cause: Error) => {
      settle();
      secure.destroy();
      reject(new DialError('unreachable', { cause }));
    };
    const onAbort = () => fail(new Error('the sandbox ended or was paused'));
    const timer = setTimeout(() => fail(new Error(`no TLS within ${DIAL_TIMEOUT_MS} ms`)), DIAL_TIMEOUT_MS);
    const settle = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      secure.off('error', fail);
      secure.off('close', onClose);
    };
    const onClose = () => fail(new Error('it closed the connection instead of speaking TLS'));
    secure.once('error', fail);
    secure.once('close', onClose);
    secure.once('secureConnect', () => {
      settle();
      resolve(secure);
    });
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}

/** Throws DialError after DIAL_ATTEMPTS; only a refusal is worth another attempt. */
async function dial(host: string, port: number, backoffMs: number, signal: AbortSignal): Promise<Socket> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await dialOnce(host, port, signal);
    } catch (error) {
      const refused = error instanceof Error && 'code' in error && error.code === 'ECONNREFUSED';
      if (!refused || attempt >= DIAL_ATTEMPTS || signal.aborted)
        throw new DialError(refused ? 'refused' : 'unreachable', { cause: error });
      await pause(attempt * backoffMs, signal);
    }
  }
}

function dialOnce(host: string, port: number, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectTapped({ host, port, noDelay: true, highWaterMark: BODY_BUFFER_BYTES });
    const fail = (error: Error) => {
      settle();
      socket.destroy();
      reject(error);
    };
    const onAbort = () => fail(new Error('the sandbox ended or was paused'));
    const timer = setTimeout(() => fail(new Error(`no answer within ${DIAL_TIMEOUT_MS} ms`)), DIAL_TIMEOUT_MS);
    const settle = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      socket.off('error', fail);
    };
    socket.once('error', fail);
    socket.once('connect', () => {
      settle();
      resolve(socket);
    });
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}

function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, delayMs);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
    signal.addEventListener('abort', done, { once: true });
  });
}
