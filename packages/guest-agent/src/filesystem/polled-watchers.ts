import type { FilesystemEvent } from '@nestbox/contract/filesystem';
import type { Inotify } from '../system/inotify.ts';
import { randomHex } from '../system/random-pool.ts';
import { DirectoryWatcher, type WatchOptions, type WatchSink } from './directory-watcher.ts';

/** Events that one watcher keeps for a client which does not fetch them: an idle client must not eat the guest's memory. */
const MAX_KEPT_EVENTS = 100_000;

/** Watchers that outlive the request which made them, with the events that were not fetched yet. */
export class PolledWatchers {
  readonly #inotify: Inotify;
  readonly #watchers = new Map<string, PolledWatcher>();

  constructor(inotify: Inotify) {
    this.#inotify = inotify;
  }

  /** Returns the new watcher's id: `w` and 20 characters. Throws the errors of `DirectoryWatcher.start`. */
  async create(options: WatchOptions, signal: AbortSignal): Promise<string> {
    const watcher = new PolledWatcher();
    await watcher.start(this.#inotify, options, signal);
    const id = `w${randomHex(10)}`;
    this.#watchers.set(id, watcher);
    return id;
  }

  get(id: string): PolledWatcher | undefined {
    return this.#watchers.get(id);
  }

  /** Returns false when there is no such watcher. */
  remove(id: string): boolean {
    this.#watchers.get(id)?.close();
    return this.#watchers.delete(id);
  }
}

export class PolledWatcher implements WatchSink {
  #watcher: DirectoryWatcher | undefined;
  #events: FilesystemEvent[] = [];
  #failure: Error | undefined;

  async start(inotify: Inotify, options: WatchOptions, signal: AbortSignal): Promise<void> {
    this.#watcher = await DirectoryWatcher.start(inotify, options, this, signal);
  }

  /** Returns all events since the last call, up to this moment, and forgets them. Throws what ended the watcher. */
  async takeEvents(): Promise<FilesystemEvent[]> {
    await this.#watcher?.flush();
    if (this.#failure !== undefined) throw this.#failure;
    return this.#events.splice(0);
  }

  close(): void {
    this.#watcher?.close();
  }

  onEvent(event: FilesystemEvent): void {
    if (this.#events.length < MAX_KEPT_EVENTS) {
      this.#events.push(event);
      return;
    }
    this.close();
    this.onFailure(new Error(`more than ${MAX_KEPT_EVENTS} events were not fetched: queue or buffer overflow`));
  }

  onFailure(error: Error): void {
    this.#failure = new Error(`watcher error: ${error.message}`, { cause: error });
    this.#events = [];
  }
}
