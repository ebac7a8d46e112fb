import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex, Readable, Writable } from 'node:stream';
import type { HttpAnswer, HttpClient, HttpExchange, HttpUpgrade } from './http-exchange.ts';

/** An exchange as Node's HTTP/1.1 server knows it. */
export class Http1Exchange implements HttpExchange, HttpAnswer {
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;

  constructor(request: IncomingMessage, response: ServerResponse) {
    this.#request = request;
    this.#response = response;
  }

  get method(): string {
    return this.#request.method ?? 'GET';
  }

  get target(): string {
    return this.#request.url ?? '';
  }

  get rawHeaders(): readonly string[] {
    return this.#request.rawHeaders;
  }

  get headers() {
    return this.#request.headers;
  }

  get client(): HttpClient {
    return clientOf(this.#request);
  }

  get hasBody(): boolean {
    const { headers } = this.#request;
    return headers['transfer-encoding'] !== undefined || Number(headers['content-length']) > 0;
  }

  get body(): Readable {
    return this.#request;
  }

  get bodyArrived(): boolean {
    return this.#request.complete;
  }

  get answer(): HttpAnswer {
    return this;
  }

  get stream(): Writable {
    return this.#response;
  }

  get begun(): boolean {
    return this.#response.headersSent;
  }

  get closed(): boolean {
    return this.#response.destroyed;
  }

  get finished(): boolean {
    return this.#response.writableFinished;
  }

  begin(status: number, statusText: string, headers: readonly string[]): void {
    if (status < 200) throw new RangeError(`${status} is no status of an answer`);
    const response = this.#response;
    response.sendDate = false;
    // An Upgrade is of one connection, and has to say so. Source: RFC 9110, section 7.8.
    const all =
      status === 426 && headers.includes('Upgrade')
        ? [...headers, 'Connection', response.shouldKeepAlive ? 'Upgrade' : 'Upgrade, close']
        : headers;
    response.writeHead(status, statusText, all as string[]);
  }

  flush(): void {
    this.#response.flushHeaders();
  }

  continue(): void {
    this.#response.writeContinue();
  }

  closeAfterwards(): void {
    this.#response.shouldKeepAlive = false;
  }

  abort(): void {
    this.#response.destroy();
  }
}

export function http1Upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): HttpUpgrade {
  const { method = 'GET', url = '', rawHeaders, headers } = request;
  return { method, target: url, rawHeaders, headers, client: clientOf(request), socket, head };
}

function clientOf({ socket }: IncomingMessage): HttpClient {
  return {
    address: socket.remoteAddress,
    scheme: 'encrypted' in socket && socket.encrypted === true ? 'https' : 'http',
  };
}
