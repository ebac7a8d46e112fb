import fs from 'node:fs';
import fsp, { type FileHandle } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** Fails what is written below a folder, in this process, as a file system does that is full or broken. */
export interface DiskFaults {
  /**
   * From now on the write of this number (the first is 1) fails, and with `stays` all that come after it until `mend`. What only
   * reads or removes goes on.
   */
  breakAt(write: number, errno: 'ENOSPC' | 'EIO', stays: boolean): void;
  /** Returns what failed, in order. */
  mend(): string[];
}

type AnyFunction = (this: unknown, ...args: never[]) => unknown;

/** Names of functions that need room, and which of their arguments is the path that they write to. */
const PROMISED = {
  mkdir: 0,
  writeFile: 0,
  appendFile: 0,
  symlink: 1,
  link: 1,
  rename: 1,
  copyFile: 1,
  open: 0,
} as const;
const SYNCHRONOUS = { mkdirSync: 0, writeFileSync: 0, openSync: 0, renameSync: 1, linkSync: 1 } as const;
const BY_HANDLE = ['write', 'writev', 'writeFile', 'appendFile', 'sync', 'datasync', 'truncate'] as const;
const BY_DESCRIPTOR = ['writeSync', 'writevSync', 'fsyncSync', 'fsync', 'ftruncateSync'] as const;

export async function makeDiskFaults(t: TestContext, folder: string): Promise<DiskFaults> {
  let next: { write: number; readonly errno: string; readonly stays: boolean } | undefined;
  let failed: string[] = [];
  const fault = (call: string, path: unknown): Error | undefined => {
    if (next === undefined || typeof path !== 'string' || !path.startsWith(folder)) return undefined;
    // A name that takes the place of another needs no room.
    if (next.errno === 'ENOSPC' && call.startsWith('rename') && fs.existsSync(path)) return undefined;
    next.write -= 1;
    if (next.write > 0 || (next.write < 0 && !next.stays)) return undefined;
    failed.push(`${call} ${path.slice(folder.length)}`);
    const error: NodeJS.ErrnoException = new Error(`${next.errno}: as this test wants it, ${call} '${path}'`);
    error.code = next.errno;
    return error;
  };

  const undo: (() => void)[] = [];
  const wrap = <T extends object>(
    object: T,
    name: keyof T & string,
    pathOf: (self: unknown, args: unknown[]) => unknown,
  ) => {
    const original = object[name] as AnyFunction;
    const isPromised = object !== (fs as object);
    const replacement = function (this: unknown, ...args: never[]) {
      const error = fault(name, pathOf(this, args));
      if (error === undefined) return original.apply(this, args);
      if (isPromised) return Promise.reject(error);
      const done: unknown = args.at(-1);
      if (typeof done !== 'function') throw error;
      process.nextTick(done, error);
      return undefined;
    };
    Object.assign(object, { [name]: replacement });
    undo.push(() => Object.assign(object, { [name]: original }));
  };

  for (const [name, at] of Object.entries(PROMISED)) wrap(fsp, name as keyof typeof PROMISED, writtenPath(name, at));
  for (const [name, at] of Object.entries(SYNCHRONOUS))
    wrap(fs, name as keyof typeof SYNCHRONOUS, writtenPath(name, at));
  for (const name of BY_DESCRIPTOR) wrap(fs, name, (_self, [fd]) => pathOfDescriptor(fd));
  const handles = await prototypeOfHandles();
  for (const name of BY_HANDLE) wrap(handles, name, (self) => pathOfDescriptor((self as FileHandle).fd));
  syncBuiltinESMExports();
  t.after(() => {
    for (const step of undo) step();
    syncBuiltinESMExports();
  });
  return {
    breakAt(write, errno, stays) {
      failed = [];
      next = { write, errno, stays };
    },
    mend() {
      next = undefined;
      return failed;
    },
  };
}

/** Undefined for a file that is opened to be read. */
function writtenPath(name: string, at: number) {
  return (_self: unknown, args: unknown[]): unknown => {
    if (typeof args[at] === 'number') return pathOfDescriptor(args[at]);
    if (!name.startsWith('open')) return args[at];
    const flags = args[1] ?? 'r';
    const isWritten = typeof flags === 'number' ? (flags & fs.constants.O_CREAT) !== 0 : /[wa]/.test(String(flags));
    return isWritten ? args[at] : undefined;
  };
}

function pathOfDescriptor(fd: unknown): string | undefined {
  try {
    return fs.readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return undefined;
  }
}

async function prototypeOfHandles(): Promise<FileHandle> {
  await using handle = await fsp.open(join(import.meta.dirname, 'disk-faults.ts'));
  return Object.getPrototypeOf(handle);
}
