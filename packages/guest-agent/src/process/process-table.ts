import { Code, ConnectError } from '@connectrpc/connect';
import type { ProcessSelector } from '@nestbox/contract/process';
import type { EndEvent } from './exit-status.ts';
import type { GuestProcess } from './guest-process.ts';

/** How long the end of a process can still be asked for (envd-interface.md, 3.3, Connect). */
const RETENTION_MS = 30_000;

/** What is kept of a process that is over. */
export interface EndedProcess {
  readonly pid: number;
  readonly tag: string | undefined;
  readonly end: EndEvent;
}

/** The processes that were started by request, by pid and by tag; and for a while how they ended. */
export class ProcessTable {
  readonly #live = new Map<number, GuestProcess>();
  readonly #liveByTag = new Map<string, GuestProcess>();
  /** The oldest first. */
  readonly #ended = new Map<number, EndedProcess & { readonly forgetAtMs: number }>();
  #sweep: NodeJS.Timeout | undefined;

  running(): GuestProcess[] {
    return [...this.#live.values()].filter(({ isRunning }) => isRunning);
  }

  /** A new process evicts what is kept of an older one with its pid or tag. */
  add(process: GuestProcess): void {
    const { tag } = process.description;
    this.#evict(process.pid, tag);
    this.#live.set(process.pid, process);
    if (tag !== undefined) this.#liveByTag.set(tag, process);
  }

  remove(process: GuestProcess): void {
    const { tag } = process.description;
    if (this.#live.get(process.pid) === process) this.#live.delete(process.pid);
    if (tag !== undefined && this.#liveByTag.get(tag) === process) this.#liveByTag.delete(tag);
  }

  /** Keeps an end for the retention time. */
  retain(ended: EndedProcess): void {
    // The kernel may have given the pid to a newer process while the last output was passed on.
    if (this.#live.has(ended.pid)) return;
    this.#evict(ended.pid, ended.tag);
    this.#ended.set(ended.pid, { ...ended, forgetAtMs: performance.now() + RETENTION_MS });
    this.#sweep ??= setTimeout(() => this.#forget(), RETENTION_MS).unref();
  }

  /** Throws ConnectError `not_found`, or `unimplemented` when the selector names nothing. */
  findRunning(selector: ProcessSelector | undefined): GuestProcess {
    const process = this.#findLive(selector);
    if (!process?.isRunning) throw notFound(selector);
    return process;
  }

  /** As `findRunning`, but a process that is over may be answered too. */
  findAny(selector: ProcessSelector | undefined): GuestProcess | EndedProcess {
    const found = this.#findLive(selector) ?? this.#findEnded(selector);
    if (found === undefined) throw notFound(selector);
    return found;
  }

  #findLive(selector: ProcessSelector | undefined): GuestProcess | undefined {
    switch (selector?.selector.case) {
      case 'pid':
        return this.#live.get(selector.selector.value);
      case 'tag':
        return this.#liveByTag.get(selector.selector.value);
      default:
        throw new ConnectError('a process is selected by pid or by tag', Code.Unimplemented);
    }
  }

  #findEnded(selector: ProcessSelector | undefined): EndedProcess | undefined {
    this.#forget();
    const wanted = selector?.selector;
    if (wanted?.case === 'pid') return this.#ended.get(wanted.value);
    return [...this.#ended.values()].findLast(({ tag }) => tag === wanted?.value);
  }

  #evict(pid: number, tag: string | undefined): void {
    this.#ended.delete(pid);
    if (tag === undefined) return;
    for (const [endedPid, ended] of this.#ended) if (ended.tag === tag) this.#ended.delete(endedPid);
  }

  #forget(): void {
    const nowMs = performance.now();
    for (const [pid, { forgetAtMs }] of this.#ended) {
      if (forgetAtMs > nowMs) break;
      this.#ended.delete(pid);
    }
    clearTimeout(this.#sweep);
    this.#sweep = this.#ended.size === 0 ? undefined : setTimeout(() => this.#forget(), RETENTION_MS).unref();
  }
}

function notFound(selector: ProcessSelector | undefined): ConnectError {
  const { case: by, value } = selector?.selector ?? {};
  return new ConnectError(`process with ${by} ${value} not found`, Code.NotFound);
}
