import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { EventType, type FilesystemEvent, FilesystemEventSchema } from '@nestbox/contract/filesystem';
import type { Inotify, InotifySubscriber } from '../system/inotify.ts';
import { IN, type InotifyRecord } from '../system/inotify-record.ts';
import { entryInfo } from './entry-info.ts';
import { errorCode } from './error-code.ts';
import { eventTypes } from './event-types.ts';
import { MovedDirectories } from './moved-directories.ts';
import { WatchedDirectories } from './watched-directories.ts';

export interface WatchOptions {
  /** Absolute path of a directory, or of a link to one. */
  readonly path: string;
  /** Watch everything below, too, also what is created later. */
  readonly recursive: boolean;
  /** Describe the file in events after which it exists. */
  readonly includeEntry: boolean;
}

/** Where a watcher's findings go. Neither function may throw. */
export interface WatchSink {
  onEvent(event: FilesystemEvent): void;
  /** The watcher has ended: events are lost, or directories cannot be watched. */
  onFailure(error: Error): void;
}

/** Records that may wait while the files of earlier ones are looked at. */
const MAX_WAITING_RECORDS = 100_000;

/** After these the file exists, so it can be described. */
const DESCRIBED: ReadonlySet<EventType> = new Set([EventType.CREATE, EventType.WRITE, EventType.CHMOD]);

/** A directory that is gone before it could be watched: nothing, or something else, has its name (ESRCH: in /proc). */
const VANISHED: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ESRCH']);

type Work = InotifyRecord | (() => void);

/**
 * Turns inotify's records about one directory, or a whole tree, into events with names relative to it.
 * Records are worked off one after the other, so events keep the kernel's order though files are looked at in between.
 */
export class DirectoryWatcher implements InotifySubscriber {
  readonly #inotify: Inotify;
  readonly #options: WatchOptions;
  readonly #sink: WatchSink;
  readonly #directories = new WatchedDirectories();
  readonly #moved: MovedDirectories;
  /** Names that were found by reading a new directory and reported; the kernel may report the same ones later. */
  readonly #announced = new Map<number, Set<string>>();
  #waiting: Work[] = [];
  #working: boolean = false;
  #closed: boolean = false;

  private constructor(inotify: Inotify, options: WatchOptions, sink: WatchSink) {
    this.#inotify = inotify;
    this.#options = options;
    this.#sink = sink;
    this.#moved = new MovedDirectories((expire) => this.#afterAllUntilNow(expire));
  }

  /**
   * Returns once everything is watched. Throws the errors of inotify_add_watch(2) and readdir(3), and the reason of
   * `signal`, which counts until then only: a tree may be large.
   */
  static async start(
    inotify: Inotify,
    options: WatchOptions,
    sink: WatchSink,
    signal: AbortSignal,
  ): Promise<DirectoryWatcher> {
    signal.throwIfAborted();
    const watcher = new DirectoryWatcher(inotify, options, sink);
    const stop = () => watcher.close();
    signal.addEventListener('abort', stop, { once: true });
    watcher.#working = true;
    try {
      await watcher.#watchTree('', 'silently');
      signal.throwIfAborted();
    } catch (error) {
      watcher.close();
      throw error;
    } finally {
      signal.removeEventListener('abort', stop);
    }
    void watcher.#workOff();
    return watcher;
  }

  /** Stops watching; no event comes after it. May be called again. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#moved.clear();
    for (const wd of this.#directories.all()) this.#inotify.unwatch(wd, this);
    for (const work of this.#waiting.splice(0)) if (typeof work === 'function') work();
  }

  /** Resolves when everything that has happened until now is reported. */
  flush(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#closed) resolve();
      else this.#afterAllUntilNow(resolve);
    });
  }

  onRecord(record: InotifyRecord): void {
    if (this.#waiting.length >= MAX_WAITING_RECORDS) this.onOverflow();
    else this.#enqueue(record);
  }

  onOverflow(): void {
    // Closing inside of the hand-out of records would disturb it.
    queueMicrotask(() => this.#fail(new Error('fsnotify: queue or buffer overflow')));
  }

  #fail(error: Error): void {
    if (this.#closed) return;
    this.close();
    this.#sink.onFailure(error);
  }

  #afterAllUntilNow(action: () => void): void {
    this.#inotify.drain();
    this.#enqueue(action);
  }

  #enqueue(work: Work): void {
    if (this.#closed) {
      if (typeof work === 'function') work();
      return;
    }
    this.#waiting.push(work);
    if (!this.#working) {
      this.#working = true;
      queueMicrotask(() => void this.#workOff());
    }
  }

  /** Never rejects: what goes wrong with one record ends the watcher, and who waits for a flush still hears of it. */
  async #workOff(): Promise<void> {
    this.#working = true;
    while (this.#waiting.length > 0) {
      for (const work of this.#waiting.splice(0)) {
        if (typeof work === 'function') work();
        else if (!this.#closed) await this.#handle(work).catch((error: Error) => this.#fail(error));
      }
    }
    this.#working = false;
  }

  async #handle({ wd, mask, cookie, name }: InotifyRecord): Promise<void> {
    const directory = this.#directories.pathOf(wd);
    if (directory === undefined) return;
    if (mask & IN.IGNORED) {
      this.#directories.delete(wd);
      return;
    }
    if (name === '') {
      // What happens to a directory below is reported by its parent already.
      if (directory === '') await this.#handleRoot(wd, mask);
      return;
    }
    const path = join(directory, name);
    const known = this.#announced.get(wd)?.delete(name) === true;
    const appears = (mask & (IN.CREATE | IN.MOVED_TO)) !== 0;
    if (known && appears) return;
    await this.#report(path, mask);
    if (!this.#options.recursive || !(mask & IN.ISDIR)) return;
    if (mask & IN.MOVED_FROM)
      this.#moved.leave(cookie, path, this.#directories.below(path), (gone) => this.#drop(gone));
    if (mask & IN.MOVED_TO) {
      const from = this.#moved.arrive(cookie);
      if (from !== undefined) this.#directories.rename(from.watches, from.path, path);
      else await this.#announceTree(path);
    }
    if (mask & IN.CREATE) await this.#announceTree(path);
  }

  async #handleRoot(wd: number, mask: number): Promise<void> {
    if (mask & IN.UNMOUNT) throw new Error('the watched directory was unmounted');
    if (mask & IN.MOVE_SELF) {
      // As fsnotify: a moved directory ends a plain watch, whose path now means something else; a tree stays watched.
      if (this.#options.recursive) return;
      this.#drop([wd]);
    }
    await this.#report('.', mask);
  }

  #drop(watches: readonly number[]): void {
    for (const wd of watches) {
      this.#directories.delete(wd);
      this.#inotify.unwatch(wd, this);
    }
  }

  /** A directory has appeared: what it held before its watch was laid is reported as created. */
  async #announceTree(path: string): Promise<void> {
    await this.#watchTree(path, 'announcing');
    // The kernel's own records of what was announced are all in the queue by now; later ones are about something new.
    this.#afterAllUntilNow(() => this.#announced.clear());
  }

  async #watchTree(path: string, how: 'silently' | 'announcing'): Promise<void> {
    if (this.#closed) return;
    const absolute = join(this.#options.path, path);
    try {
      const wd = this.#inotify.watch(path === '' ? this.#options.path : absolute, this, { followLink: path === '' });
      this.#directories.set(wd, path);
      if (!this.#options.recursive) return;
      for (const child of await readdir(absolute, { withFileTypes: true })) {
        const childPath = join(path, child.name);
        if (how === 'announcing') {
          this.#noteAnnounced(wd, child.name);
          await this.#report(childPath, IN.CREATE);
        }
        if (child.isDirectory()) await this.#watchTree(childPath, how);
      }
    } catch (error) {
      if (path === '' || !VANISHED.has(errorCode(error))) throw error;
    }
  }

  #noteAnnounced(wd: number, name: string): void {
    const names = this.#announced.get(wd);
    if (names === undefined) this.#announced.set(wd, new Set([name]));
    else names.add(name);
  }

  async #report(name: string, mask: number): Promise<void> {
    for (const type of eventTypes(mask)) {
      const event = create(FilesystemEventSchema, { name, type });
      if (this.#options.includeEntry && DESCRIBED.has(type)) {
        const entry = await entryInfo(join(this.#options.path, name)).catch(absentWhenUnreadable);
        if (entry !== undefined) event.entry = entry;
      }
      if (!this.#closed) this.#sink.onEvent(event);
    }
  }
}

function absentWhenUnreadable(error: unknown): undefined {
  if (errorCode(error) === undefined) throw error;
}
