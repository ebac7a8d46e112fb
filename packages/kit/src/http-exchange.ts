import type { IncomingHttpHeaders } from 'node:http';
import type { Duplex, Readable, Writable } from 'node:stream';

/** A request on its way through a proxy and the way back for its answer, whichever version of HTTP its client speaks. */
export interface HttpExchange {
  readonly method: string;
  /** The request target as the client sent it. */
  readonly target: string;
  /** Name, value, name, value…, in the order and spelling of the client. Host is there for HTTP/2 too; its pseudo-headers are not. */
  readonly rawHeaders: readonly string[];
  readonly headers: IncomingHttpHeaders;
  readonly client: HttpClient;
  readonly hasBody: boolean;
  readonly body: Readable;
  /** True when the whole body has come. */
  readonly bodyArrived: boolean;
  readonly answer: HttpAnswer;
}

/** Whoever sent a request, as the socket knows it. */
export interface HttpClient {
  readonly address: string | undefined;
  readonly scheme: 'http' | 'https';
}

/** Where the answer goes. Its head comes first, then bytes into `stream`. */
export interface HttpAnswer {
  readonly stream: Writable;
  /** The head is out, or about to be: nothing else can be answered any more. */
  readonly begun: boolean;
  /** Nobody is there to read it. */
  readonly closed: boolean;
  /** All of it is out. */
  readonly finished: boolean;
  /** `headers` is name, value, name, value… Throws on what HTTP cannot say (a status below 200, a line break in a value); another answer may follow then. */
  begin(status: number, statusText: string, headers: readonly string[]): void;
  /** Sends the head now, though no body has come yet. */
  flush(): void;
  /** Answers `Expect: 100-continue`. */
  continue(): void;
  /** To be called before `begin`: the connection is of no use after this answer. */
  closeAfterwards(): void;
  /** Breaks the answer off, in a way that no client takes for its end. */
  abort(): void;
}

/** A request to leave HTTP/1.1 behind, for WebSockets mostly. */
export interface HttpUpgrade {
  readonly method: string;
  readonly target: string;
  readonly rawHeaders: readonly string[];
  readonly headers: IncomingHttpHeaders;
  readonly client: HttpClient;
  readonly socket: Duplex;
  /** What came along with the request and belongs to the new protocol. */
  readonly head: Buffer;
}

/** How a host's proxy is to pass an exchange on. */
export interface ProxyOrder {
  /** `/proxy/<sandboxId>/<port>/…` */
  readonly target: string;
  /** Name, value, name, value…: what the application is to get of the request's headers. The proxy may change the list. */
  readonly headers: string[];
  /** In place of the client's Host header. */
  readonly maskedHost?: string | undefined;
  /** The application speaks TLS. */
  readonly secure?: boolean | undefined;
}

/** A host's proxy, in this process. */
export interface ExchangeHandler {
  handle(exchange: HttpExchange, order: ProxyOrder): void;
  handleUpgrade(upgrade: HttpUpgrade, order: ProxyOrder): void;
}
