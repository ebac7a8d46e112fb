import { closeSync } from 'node:fs';
import koffi, { type node as event } from 'koffi';
import { IN, type InotifyRecord, parseInotifyRecords } from './inotify-record.ts';
import { checked, libc } from './libc.ts';

/** Node has O_NONBLOCK but not O_CLOEXEC among its constants; inotify_init1(2) takes both under names of its own. */
const IN_NONBLOCK = 0o4_000;
const IN_CLOEXEC = 0o2_000_000;

/** What a directory is watched for: the set that fsnotify uses. Equal for every watch, as the kernel keeps one a file. */
const WATCH_MASK =
  IN.CREATE | IN.MODIFY | IN.ATTRIB | IN.MOVED_TO | IN.MOVED_FROM | IN.DELETE | IN.DELETE_SELF | IN.MOVE_SELF;

const READ_BYTES = 65_536;
/** Reads in one turn of the event loop; a writer that never pauses must not stop the agent. */
const READS_A_TURN = 16;
/** More than the kernel's whole queue (16,384 records of at most 272 bytes). */
const READS_A_DRAIN = 128;

export interface InotifySubscriber {
  /** In the kernel's order, for each record of a watch that the subscriber holds. Only takes note: must not throw, nor
   * call back into Inotify, since more records of the same read follow. */
  onRecord(record: InotifyRecord): void;
  /** The kernel's queue was full and records are lost. Must not throw. */
  onOverflow(): void;
}

interface InotifyCalls {
  readonly init: (flags: number) => number;
  readonly add: (fd: number, path: string, mask: number) => number;
  readonly remove: (fd: number, wd: number) => number;
  readonly read: (fd: number, data: Buffer, size: number) => number;
}

function bindCalls(): InotifyCalls {
  return {
    init: libc().func('int inotify_init1(int flags)'),
    add: libc().func('int inotify_add_watch(int fd, const char *path, uint32_t mask)'),
    remove: libc().func('int inotify_rm_watch(int fd, int wd)'),
    read: libc().func('int64_t read(int fd, void *data, size_t size)'),
  };
}

/** The kernel's end, which exists only while something is watched. */
interface OpenInstance {
  readonly fd: number;
  readonly poll: event.PollHandle;
  readonly subscribers: Map<number, Set<InotifySubscriber>>;
}

/**
 * One inotify instance shared by all watchers of the process (the kernel allows a user only some). Its descriptor sits
 * in Node's own event loop, costs no thread, does not keep the process alive, and is closed with the last watch.
 */
export class Inotify {
  #calls: InotifyCalls | undefined;
  #open: OpenInstance | undefined;
  readonly #buffer = Buffer.allocUnsafeSlow(READ_BYTES);

  /**
   * Watches the directory `path` (a link is followed unless `followLink` is false) and returns its watch descriptor,
   * which is the same for every path to the same directory. Asking twice for the same subscriber counts once.
   * Throws SystemCallError: ENOENT, ENOTDIR, ENOSPC (fs.inotify.max_user_watches reached), EMFILE (max_user_instances).
   */
  watch(path: string, subscriber: InotifySubscriber, { followLink }: { followLink: boolean }): number {
    this.#calls ??= bindCalls();
    this.#open ??= this.#start(this.#calls);
    const { fd, subscribers } = this.#open;
    try {
      const mask = WATCH_MASK | IN.ONLYDIR | (followLink ? 0 : IN.DONT_FOLLOW);
      const wd = checked('inotify_add_watch', this.#calls.add(fd, path, mask));
      const holders = subscribers.get(wd);
      if (holders === undefined) subscribers.set(wd, new Set([subscriber]));
      else holders.add(subscriber);
      return wd;
    } catch (error) {
      this.#closeWhenUnused();
      throw error;
    }
  }

  /** Gives one watch back; unknown ones are ignored, since the kernel drops the watch of a removed directory itself. */
  unwatch(wd: number, subscriber: InotifySubscriber): void {
    const open = this.#open;
    const holders = open?.subscribers.get(wd);
    if (open === undefined || holders === undefined) return;
    holders.delete(subscriber);
    if (holders.size > 0) return;
    open.subscribers.delete(wd);
    this.#calls?.remove(open.fd, wd);
    this.#closeWhenUnused();
  }

  /** Whether a descriptor is held, which is while anything is watched. */
  get isOpen(): boolean {
    return this.#open !== undefined;
  }

  /** Hands out everything that has happened until now, without waiting for the event loop. Not for use in `onRecord`. */
  drain(): void {
    this.#read(READS_A_DRAIN);
  }

  #start({ init }: InotifyCalls): OpenInstance {
    const fd = checked('inotify_init1', init(IN_NONBLOCK | IN_CLOEXEC));
    try {
      // libuv calls back outside of Node's own callback scope, where promises would not go on; an immediate is inside.
      const poll = koffi.node.poll(fd, { readable: true }, () => setImmediate(() => this.#read(READS_A_TURN)));
      poll.unref();
      return { fd, poll, subscribers: new Map() };
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  #read(limit: number): void {
    for (let reads = 0; reads < limit; reads += 1) if (!this.#readOnce()) return;
  }

  /** Returns false when there was nothing to read. */
  #readOnce(): boolean {
    if (this.#open === undefined || this.#calls === undefined) return false;
    const length = this.#calls.read(this.#open.fd, this.#buffer, this.#buffer.length);
    if (length < 0) {
      const errno = koffi.errno();
      if (errno === koffi.os.errno.EINTR) return true;
      // Anything but an empty queue means that records cannot be had any more: as bad as lost ones.
      if (errno !== koffi.os.errno.EAGAIN) this.#overflow();
      return false;
    }
    for (const record of parseInotifyRecords(this.#buffer.subarray(0, length))) this.#dispatch(record);
    return true;
  }

  #dispatch(record: InotifyRecord): void {
    if (record.mask & IN.Q_OVERFLOW) {
      this.#overflow();
      return;
    }
    const subscribers = this.#open?.subscribers;
    const holders = subscribers?.get(record.wd);
    if (holders === undefined) return;
    // The kernel has removed the watch itself and may give its number to another directory later.
    if (record.mask & IN.IGNORED) subscribers?.delete(record.wd);
    for (const holder of [...holders]) holder.onRecord(record);
    this.#closeWhenUnused();
  }

  #overflow(): void {
    const everyone = new Set<InotifySubscriber>();
    for (const holders of this.#open?.subscribers.values() ?? []) for (const holder of holders) everyone.add(holder);
    for (const holder of everyone) holder.onOverflow();
  }

  #closeWhenUnused(): void {
    if (this.#open === undefined || this.#open.subscribers.size > 0) return;
    const { fd, poll } = this.#open;
    this.#open = undefined;
    poll.close();
    closeSync(fd);
  }
}
