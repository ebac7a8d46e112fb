import {
  constants,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type OutgoingHttpHeaders,
  type ServerStreamResponseOptions,
} from 'node:http2';
import type { Readable, Writable } from 'node:stream';
import type { HttpAnswer, HttpClient, HttpExchange } from '@nestbox/kit';

/** Of these HTTP/2 takes one value; an application that says one twice means the first. */
const SINGLE_VALUES: ReadonlySet<string> = new Set([
  ...['age', 'content-length', 'content-type', 'date', 'etag', 'expires', 'last-modified', 'location', 'retry-after'],
  ...[
    'content-encoding',
    'content-language',
    'content-location',
    'content-md5',
    'content-range',
    'content-disposition',
  ],
  ...['access-control-allow-credentials', 'access-control-max-age', 'referer', 'user-agent', 'from', 'host'],
]);

/** Node would add a Date; what there is comes from the application. (Its types do not list the option.) */
const RESPOND_OPTIONS: ServerStreamResponseOptions & { readonly sendDate: boolean } = { sendDate: false };

/** An exchange as Node's HTTP/2 server knows it, looking to proxies like one of HTTP/1.1. */
export class Http2Exchange implements HttpExchange, HttpAnswer {
  readonly rawHeaders: readonly string[];
  readonly headers: HttpExchange['headers'];
  readonly hasBody: boolean;
  readonly #request: Http2ServerRequest;
  readonly #response: Http2ServerResponse;

  constructor(request: Http2ServerRequest, response: Http2ServerResponse) {
    this.#request = request;
    this.#response = response;
    this.rawHeaders = http1Headers(request);
    this.headers = { ...request.headers, host: request.authority || request.headers.host };
    this.hasBody = !request.stream.endAfterHeaders;
    // Who went away is told by 'close'.
    request.on('error', ignore);
    response.stream.on('error', ignore);
    // Until what came is read, Node does not say that the stream is closed. A client that reset it wants nothing any more.
    if (!this.hasBody) request.resume();
    response.stream.once('aborted', () => response.stream.destroy());
  }

  get method(): string {
    return this.#request.method;
  }

  get target(): string {
    return this.#request.url ?? '';
  }

  get client(): HttpClient {
    return { address: this.#request.stream.session?.socket.remoteAddress, scheme: 'https' };
  }

  get body(): Readable {
    return this.#request;
  }

  get bodyArrived(): boolean {
    return !this.hasBody || this.#request.complete;
  }

  get answer(): HttpAnswer {
    return this;
  }

  get stream(): Writable {
    return this.#response.stream;
  }

  get begun(): boolean {
    return this.#response.stream.headersSent;
  }

  get closed(): boolean {
    const { stream } = this.#response;
    return stream.destroyed || stream.closed;
  }

  get finished(): boolean {
    return this.#response.stream.writableFinished;
  }

  begin(status: number, _statusText: string, headers: readonly string[]): void {
    const { stream } = this.#response;
    stream.respond({ ...http2Headers(headers), ':status': status }, RESPOND_OPTIONS);
    // What the client still sends is for nobody. Source: RFC 9113, section 8.1.
    stream.once('finish', () => {
      if (!this.bodyArrived && !stream.destroyed) stream.close(constants.NGHTTP2_NO_ERROR);
    });
  }

  flush(): void {
    // A head is sent at once.
  }

  continue(): void {
    if (!this.closed && !this.begun) this.#response.stream.additionalHeaders({ ':status': 100 });
  }

  closeAfterwards(): void {
    // A stream is not used again anyway.
  }

  abort(): void {
    // Closing the stream instead would end it first, and look like a whole answer.
    this.#response.stream.destroy(new Error('the answer broke off'));
  }
}

/** Name, value, name, value… as HTTP/1.1 would have said it. Source: RFC 9113, sections 8.2.3 (cookies) and 8.3.1. */
function http1Headers(request: Http2ServerRequest): string[] {
  const { rawHeaders, headers, authority } = request;
  const found: string[] = [];
  if (authority) found.push('host', authority);
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? '';
    const value = rawHeaders[i + 1] ?? '';
    if (name.startsWith(':') || name === 'cookie') continue;
    // One that says the same is one too many, one that says something else shows that there are two.
    if (name === 'host' && value === authority) continue;
    found.push(name, value);
  }
  if (headers.cookie !== undefined) found.push('cookie', headers.cookie);
  return found;
}

function http2Headers(flat: readonly string[]): OutgoingHttpHeaders {
  const headers: Record<string, string | string[]> = {};
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const name = (flat[i] ?? '').toLowerCase();
    const value = flat[i + 1] ?? '';
    // Of an answer that asks for another protocol (426), which HTTP/2 cannot change to. Source: RFC 9113, section 8.2.2.
    if (name === 'upgrade') continue;
    const before = headers[name];
    if (before === undefined) headers[name] = value;
    else if (!SINGLE_VALUES.has(name)) headers[name] = Array.isArray(before) ? [...before, value] : [before, value];
  }
  return headers;
}

function ignore(): void {}
