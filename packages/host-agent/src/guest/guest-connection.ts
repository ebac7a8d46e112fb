import type { Socket } from 'node:net';
import { type Client, createClient, type Transport } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { GUEST_AGENT_PORT } from '@nestbox/contract';
import { Filesystem } from '@nestbox/contract/filesystem';
import { Process } from '@nestbox/contract/process';
import { ConnectionPool, type PoolOptions, UNARY_TIMEOUT_MS } from './connection-pool.ts';

export interface GuestEndpoint {
  /** Where the host reaches the guest. */
  readonly address: string;
  /** Default: the guest agent's own port. */
  readonly port?: number;
  /** At the beginning. Undefined: the guest agent was initialised without one. */
  readonly accessToken: string | undefined;
}

/** Which user runs a process or owns a file. Source: envd-interface, "User". */
export const DEFAULT_GUEST_USER = 'root';

/** A guest that announces more is not believed, and nothing is set aside for it. */
const MAX_MESSAGE_BYTES = 16 * 2 ** 20;

export interface GuestConnectionOptions extends PoolOptions {
  /** `json` is what the `e2b` clients speak; the default `binary` is shorter. */
  readonly encoding?: 'binary' | 'json';
}

/** One guest agent, its two pools, and the typed clients over them. */
export class GuestConnection {
  readonly endpoint: GuestEndpoint;
  readonly port: number;
  /** Calls that answer at once, two minutes at most. */
  readonly unary: ConnectionPool;
  /** Streams of output, terminals and file contents: no limit. */
  readonly streaming: ConnectionPool;
  readonly unaryProcess: Client<typeof Process>;
  readonly streamingProcess: Client<typeof Process>;
  readonly filesystem: Client<typeof Filesystem>;
  readonly streamingFilesystem: Client<typeof Filesystem>;
  readonly #encoding: 'binary' | 'json';
  #accessToken: string | undefined;

  constructor(endpoint: GuestEndpoint, options: GuestConnectionOptions = {}) {
    this.endpoint = endpoint;
    this.#accessToken = endpoint.accessToken;
    this.#encoding = options.encoding ?? 'binary';
    this.port = endpoint.port ?? GUEST_AGENT_PORT;
    this.unary = new ConnectionPool(options);
    this.streaming = new ConnectionPool(options);
    const unaryTransport = this.#transport(this.unary, UNARY_TIMEOUT_MS);
    this.unaryProcess = createClient(Process, unaryTransport);
    this.filesystem = createClient(Filesystem, unaryTransport);
    const streamingTransport = this.#transport(this.streaming);
    this.streamingProcess = createClient(Process, streamingTransport);
    this.streamingFilesystem = createClient(Filesystem, streamingTransport);
  }

  /** The endpoint's, or the one that it was given since. */
  get accessToken(): string | undefined {
    return this.#accessToken;
  }

  /** From now on with this one, on the connections that there are. The guest agent learns of it by /init. */
  giveToken(accessToken: string | undefined): void {
    this.#accessToken = accessToken;
  }

  /** Headers that name the user (Basic, no password) and carry the token. */
  headers(user: string = DEFAULT_GUEST_USER): Record<string, string> {
    const authorization = `Basic ${Buffer.from(`${user}:`).toString('base64')}`;
    const token = this.#accessToken;
    return token === undefined ? { authorization } : { authorization, 'x-access-token': token };
  }

  closeIdle(kept?: Socket): void {
    this.unary.closeIdle(kept);
    this.streaming.closeIdle(kept);
  }

  /** Ends every connection, used ones too. */
  close(): void {
    this.unary.destroy();
    this.streaming.destroy();
  }

  #transport(pool: ConnectionPool, defaultTimeoutMs?: number): Transport {
    return createConnectTransport({
      httpVersion: '1.1',
      baseUrl: `http://${this.endpoint.address}:${this.port}`,
      acceptCompression: [],
      useBinaryFormat: this.#encoding === 'binary',
      readMaxBytes: MAX_MESSAGE_BYTES,
      nodeOptions: { agent: pool },
      ...(defaultTimeoutMs === undefined ? {} : { defaultTimeoutMs }),
    });
  }
}
