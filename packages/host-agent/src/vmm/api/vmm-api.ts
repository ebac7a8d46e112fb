import { request } from 'node:http';

/** The VMM answered, and refused. `fault` is what it said of it. */
export class VmmFaultError extends Error {
  override readonly name = 'VmmFaultError';
  readonly status: number;
  readonly fault: string;

  constructor(call: string, status: number, fault: string) {
    super(`${call} was refused (${status}): ${fault}`);
    this.status = status;
    this.fault = fault;
  }
}

/** The VMM gave no answer that can be used: no socket, nobody listens, too slow, or cut off half-way. */
export class VmmUnavailableError extends Error {
  override readonly name = 'VmmUnavailableError';
}

export interface ApiCall {
  readonly method: 'GET' | 'PUT' | 'PATCH';
  /** From the root, e.g. `/vm`. */
  readonly path: string;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** For the whole call. */
  readonly deadlineMs: number;
}

/** The largest answer that a VMM gives is its whole configuration, some KiB. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

/**
 * The HTTP/1.1 API that a VMM serves on its unix socket. Each call has a connection of its own, so a call that was given up
 * is never mistaken for the next.
 */
export class VmmApi {
  readonly #socketPath: string;
  readonly #longestMs: number;

  /** `longestMs` cuts the deadline of every call. */
  constructor(socketPath: string, longestMs = Number.POSITIVE_INFINITY) {
    this.#socketPath = socketPath;
    this.#longestMs = longestMs;
  }

  /**
   * The answer's JSON; undefined when it has none (204). Throws VmmFaultError for a status of 300 or more,
   * VmmUnavailableError, or the signal's reason.
   */
  async call(call: ApiCall, signal?: AbortSignal): Promise<unknown> {
    signal?.throwIfAborted();
    const name = `${call.method} ${call.path}`;
    const { status, text } = await this.#exchange(call, name, signal);
    if (status >= 300) throw new VmmFaultError(name, status, faultOf(text));
    if (text.trim() === '') return undefined;
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new VmmUnavailableError(`${name}: the answer is no JSON.`, { cause });
    }
  }

  #exchange(
    { method, path, body, deadlineMs: wantedMs }: ApiCall,
    name: string,
    signal: AbortSignal | undefined,
  ): Promise<{ status: number; text: string }> {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const deadlineMs = Math.min(wantedMs, this.#longestMs);
    const deadline = AbortSignal.timeout(deadlineMs);
    const unavailable = (why: string, cause?: unknown) => new VmmUnavailableError(`${name}: ${why}`, { cause });
    return new Promise((resolve, reject) => {
      const fail = (cause: unknown) => {
        if (signal?.aborted) reject(signal.reason);
        else if (deadline.aborted) reject(unavailable(`no answer within ${deadlineMs} ms.`, cause));
        else reject(unavailable(cause instanceof Error ? cause.message : String(cause), cause));
      };
      const outgoing = request({
        socketPath: this.#socketPath,
        method,
        path,
        // No pool: a connection a call.
        agent: false,
        signal: signal === undefined ? deadline : AbortSignal.any([deadline, signal]),
        headers: {
          host: 'localhost',
          accept: 'application/json',
          ...(payload === undefined ? {} : { 'content-type': 'application/json', 'content-length': payload.length }),
        },
      });
      outgoing.once('error', fail);
      outgoing.once('response', (response) => {
        const parts: Buffer[] = [];
        let length = 0;
        response.on('data', (part: Buffer) => {
          parts.push(part);
          length += part.length;
          if (length > MAX_ANSWER_BYTES) outgoing.destroy(new Error('the answer is too long.'));
        });
        response.once('error', fail);
        response.once('end', () => {
          if (!response.complete) fail(new Error('the answer was cut off.'));
          else resolve({ status: response.statusCode ?? 0, text: Buffer.concat(parts).toString('utf8') });
        });
      });
      outgoing.end(payload);
    });
  }
}

const MAX_FAULT_CHARS = 1000;

/**
 * What a refusal says, in one line: Firecracker's `fault_message`, Cloud Hypervisor's list of causes (the outermost first),
 * or the text as it is.
 */
export function faultOf(text: string): string {
  const said = readFault(text).replaceAll(/\s+/g, ' ').trim().slice(0, MAX_FAULT_CHARS);
  return said === '' ? 'it does not say why' : said;
}

function readFault(text: string): string {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return text;
  }
  if (Array.isArray(parsed)) return parsed.filter((part) => typeof part === 'string').join(': ');
  if (typeof parsed === 'string') return parsed;
  if (typeof parsed !== 'object' || parsed === null) return text;
  for (const key of ['fault_message', 'error', 'message']) {
    const value: unknown = Reflect.get(parsed, key);
    if (typeof value === 'string') return value;
  }
  return text;
}
