import type { Socket } from 'node:net';
import type { Writable } from 'node:stream';

/** What has been answered for so long is a stream: a running command, a watch, a WebSocket. It ends when somebody ends it. */
const STREAM_MS = 5000;
/** A stream that has something to say says it within this time, or seldom. */
const STILL_MS = 250;

/** A request or an upgraded connection that is under way. */
export class InFlight {
  readonly #begunMs = performance.now();
  readonly #client: Writable;
  #application: Socket | undefined;

  /** `client` is where the answer goes. */
  constructor(client: Writable) {
    this.#client = client;
  }

  /** The application answers by this connection. */
  answeredBy(application: Socket): void {
    this.#application = application;
  }

  /** What a stream has moved in both directions so far; undefined of what may soon end, and while its client has not got all. */
  movedBytes(nowMs: number): number | undefined {
    const application = this.#application;
    if (application === undefined || nowMs - this.#begunMs < STREAM_MS || this.#client.writableLength > 0)
      return undefined;
    return application.bytesRead + application.bytesWritten;
  }
}

/** Tells by looking again and again whether anything still moves. */
export class Stillness {
  readonly #looks = new Map<InFlight, { readonly bytes: number; readonly sinceMs: number }>();

  /** Whether all are streams in which nothing has moved for a while. */
  covers(all: Iterable<InFlight>): boolean {
    const nowMs = performance.now();
    let isStill = true;
    for (const each of all) if (!this.#isStill(each, nowMs)) isStill = false;
    return isStill;
  }

  #isStill(each: InFlight, nowMs: number): boolean {
    const bytes = each.movedBytes(nowMs);
    const look = this.#looks.get(each);
    if (bytes === undefined) this.#looks.delete(each);
    else if (look?.bytes !== bytes) this.#looks.set(each, { bytes, sinceMs: nowMs });
    else return nowMs - look.sinceMs >= STILL_MS;
    return false;
  }
}
