import { Agent, type ClientRequestArgs, type RequestOptions } from 'node:http';
import type { Socket } from 'node:net';
import {
  answerEndToEndHeaders,
  BrokenAnswerError,
  connectTapped,
  type ExchangeHandler,
  HOST_TOKEN_HEADER,
  type HttpExchange,
  type HttpUpgrade,
  MASKED_HOST_HEADER,
  type Passage,
  type ProxyOrder,
  passExchange,
  passUpgrade,
  SECURE_PORT_HEADER,
} from '@nestbox/kit';
import type { ProxyAddress } from '../config.ts';
import { answerError, brokenAnswer, type EdgeError, edgeErrorOnWire, hostUnreachable } from './edge-error.ts';

/** Idle connections to a host's proxy are closed sooner than the proxy would (620 s). */
const IDLE_MS = 60_000;
const MAX_IDLE_CONNECTIONS = 64;
/** For a proxy on another machine; a unix socket answers at once or not at all. */
const CONNECT_TIMEOUT_MS = 10_000;
/** Probes find a machine that vanished without a word, behind an answer that may be silent for hours. */
const TCP_OPTIONS = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 1000 };

type ListeningProxy = Exclude<ProxyAddress, { handler: unknown }>;

/** A host's proxy behind HTTP/1.1, reached over connections that are shared with nothing else. */
export class RemoteProxy implements ExchangeHandler {
  readonly #address: Pick<RequestOptions, 'host' | 'port' | 'socketPath'>;
  readonly #token: string | undefined;
  readonly #agent = new DialingAgent();
  readonly #onFailure: (error: Error) => void;

  constructor(proxy: ListeningProxy, onFailure: (error: Error) => void) {
    this.#address = 'socketPath' in proxy ? { socketPath: proxy.socketPath } : { host: proxy.host, port: proxy.port };
    this.#token = proxy.token;
    this.#onFailure = onFailure;
  }

  handle(exchange: HttpExchange, order: ProxyOrder): void {
    passExchange(
      exchange,
      this.#passage(order, (error) => answerError(exchange, error)),
    );
  }

  handleUpgrade(upgrade: HttpUpgrade, order: ProxyOrder): void {
    passUpgrade(
      upgrade,
      this.#passage(order, (error) => upgrade.socket.end(edgeErrorOnWire(error))),
    );
  }

  /** Ends every connection, those in use too. */
  close(): void {
    this.#agent.destroy();
  }

  #passage({ target, headers, maskedHost, secure }: ProxyOrder, answer: (error: EdgeError) => void): Passage {
    if (this.#token !== undefined) headers.push(HOST_TOKEN_HEADER, this.#token);
    if (maskedHost !== undefined) headers.push(MASKED_HOST_HEADER, maskedHost);
    if (secure === true) headers.push(SECURE_PORT_HEADER, '1');
    const [, , sandboxId = '', port = ''] = target.split('/', 4);
    const named = { sandboxId, port: Number.parseInt(port, 10) };
    return {
      address: { ...this.#address, agent: this.#agent },
      path: target,
      headers,
      answerHeaders: answerEndToEndHeaders,
      failed: (error) => {
        this.#onFailure(error);
        answer(error instanceof BrokenAnswerError ? brokenAnswer(named) : hostUnreachable(named));
      },
    };
  }
}

/** Gives up on a machine that does not answer. */
class DialingAgent extends Agent {
  constructor() {
    // The time-out ends idle sockets; on one in use it is no more than an event that nobody listens to.
    super({ keepAlive: true, maxFreeSockets: MAX_IDLE_CONNECTIONS, timeout: IDLE_MS });
  }

  override createConnection({ socketPath, host, port }: ClientRequestArgs): Socket {
    const socket =
      typeof socketPath === 'string'
        ? connectTapped({ path: socketPath })
        : connectTapped({ host: host ?? 'localhost', port: Number(port), ...TCP_OPTIONS });
    const timer = setTimeout(() => socket.destroy(new Error('The connection took too long.')), CONNECT_TIMEOUT_MS);
    const settled = () => clearTimeout(timer);
    socket.once('connect', settled).once('close', settled);
    return socket;
  }
}
