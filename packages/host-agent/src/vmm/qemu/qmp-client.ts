import { connect, type Socket } from 'node:net';
import { type QmpMessage, QmpMessageReader } from './qmp-messages.ts';

export type QmpEvent = Extract<QmpMessage, { kind: 'event' }>;

/** QEMU refused a command. `errorClass` is QEMU's, e.g. `CommandNotFound`, `GenericError`. */
export class QmpCommandError extends Error {
  override readonly name = 'QmpCommandError';
  readonly command: string;
  readonly errorClass: string;

  constructor(command: string, errorClass: string, description: string) {
    super(`QEMU refused ${command}: ${description}`);
    this.command = command;
    this.errorClass = errorClass;
  }
}

/** The connection cannot be made or is gone, or no answer came in time. */
export class QmpUnavailableError extends Error {
  override readonly name = 'QmpUnavailableError';
}

export interface QmpConnectOptions {
  /** For the connection, the greeting and the negotiation together. */
  readonly deadlineMs: number;
}

interface PendingCommand {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/**
 * One QMP connection. QEMU serves one client at a time on a socket: a second one connects and is never greeted, which
 * ends here as QmpUnavailableError. The connection alone does not keep the event loop alive; a command that waits does.
 */
export class QmpClient {
  readonly #socket: Socket;
  readonly #reader = new QmpMessageReader();
  readonly #pending = new Map<number, PendingCommand>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #greeted = Promise.withResolvers<string>();
  readonly #closed = Promise.withResolvers<void>();
  #nextId = 1;
  #closeReason: Error | undefined;
  #version = '';

  private constructor(socket: Socket) {
    this.#socket = socket;
    // Whoever waits for the greeting sees this rejection; when nobody does any more it must not count as unhandled.
    this.#greeted.promise.catch(() => undefined);
    socket.on('data', (chunk) => this.#onData(chunk));
    socket.once('error', (cause) => this.#fail(new QmpUnavailableError(`QMP connection: ${cause.message}`, { cause })));
    socket.once('close', () => {
      this.#fail(new QmpUnavailableError('QEMU closed its QMP connection.'));
      this.#closed.resolve();
    });
  }

  /** Connects, waits for the greeting, leaves the negotiation mode. Throws QmpUnavailableError. */
  static async connect(path: string, options: QmpConnectOptions, signal?: AbortSignal): Promise<QmpClient> {
    const socket = connect(path);
    const client = new QmpClient(socket);
    const timer = setTimeout(() => {
      client.#fail(
        new QmpUnavailableError(
          `QEMU did not answer on ${path} within ${options.deadlineMs} ms: it hangs, or something else holds its control socket.`,
        ),
      );
    }, options.deadlineMs);
    const onAbort = () => client.#fail(new QmpUnavailableError('The QMP connection was abandoned.'));
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    try {
      client.#version = await client.#greeted.promise;
      await client.execute('qmp_capabilities', undefined, { deadlineMs: options.deadlineMs });
      socket.unref();
      return client;
    } catch (error) {
      client.close();
      throw error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** QEMU's version as it greeted, e.g. `7.2.22`. */
  get version(): string {
    return this.#version;
  }

  get isOpen(): boolean {
    return this.#closeReason === undefined;
  }

  /** Resolves when the connection is gone, for whatever reason. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /**
   * Asks one command and returns its `return` value, unparsed. Throws QmpCommandError when QEMU refuses, and
   * QmpUnavailableError when the connection ends, the deadline passes or the signal aborts; the command may then have been
   * carried out.
   */
  execute(
    command: string,
    args: Readonly<Record<string, unknown>> | undefined,
    options: { readonly deadlineMs: number },
    signal?: AbortSignal,
  ): Promise<unknown> {
    if (this.#closeReason !== undefined) return Promise.reject(this.#closeReason);
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const giveUp = (reason: string) => {
      this.#pending.delete(id);
      reject(new QmpUnavailableError(reason));
    };
    const timer = setTimeout(
      () => giveUp(`QEMU did not answer ${command} within ${options.deadlineMs} ms.`),
      options.deadlineMs,
    );
    const onAbort = () => giveUp(`Waiting for QEMU's answer to ${command} was abandoned.`);
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#pending.set(id, { command, resolve, reject });
    if (signal?.aborted) onAbort();
    const request = args === undefined ? { execute: command, id } : { execute: command, arguments: args, id };
    this.#socket.write(`${JSON.stringify(request)}\n`);
    return promise.finally(() => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    });
  }

  /** Calls the listener for each event until the returned undo is called. */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Ends the connection; commands that wait fail with QmpUnavailableError. The VM goes on. */
  close(): void {
    this.#fail(new QmpUnavailableError('The QMP connection was closed on our side.'));
  }

  #onData(chunk: Buffer): void {
    try {
      for (const message of this.#reader.push(chunk)) this.#onMessage(message);
    } catch (cause) {
      this.#fail(
        new QmpUnavailableError(`QEMU's QMP stream is damaged: ${cause instanceof Error ? cause.message : ''}`, {
          cause,
        }),
      );
    }
  }

  #onMessage(message: QmpMessage): void {
    if (message.kind === 'greeting') {
      this.#greeted.resolve(message.version);
      return;
    }
    if (message.kind === 'event') {
      for (const listener of this.#listeners) listener(message);
      return;
    }
    // An answer that nobody waits for any more came after its deadline. One without id refuses a line that was no command.
    const pending = message.id === undefined ? undefined : this.#pending.get(message.id);
    if (message.id === undefined || pending === undefined) return;
    this.#pending.delete(message.id);
    if (message.kind === 'return') pending.resolve(message.value);
    else pending.reject(new QmpCommandError(pending.command, message.errorClass, message.description));
  }

  #fail(reason: Error): void {
    if (this.#closeReason !== undefined) return;
    this.#closeReason = reason;
    this.#greeted.reject(reason);
    for (const { reject } of this.#pending.values()) reject(reason);
    this.#pending.clear();
    this.#socket.destroy();
  }
}
