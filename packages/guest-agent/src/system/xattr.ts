import { checked, libc } from './libc.ts';

/** The most that one attribute value, and one list of names, can hold (limits.h: XATTR_SIZE_MAX, XATTR_LIST_MAX). */
const MAX_BYTES = 65_536;

interface XattrCalls {
  readonly list: (path: string, names: Buffer, size: number) => number;
  readonly get: (path: string, name: string, value: Buffer, size: number) => number;
  readonly listOfFile: (fd: number, names: Buffer, size: number) => number;
  readonly setOnFile: (fd: number, name: string, value: Buffer, size: number, flags: number) => number;
  readonly removeFromFile: (fd: number, name: string) => number;
  /** Filled by one call and read before the next, so one is enough. */
  readonly scratch: Buffer;
}

let bound: XattrCalls | undefined;

function calls(): XattrCalls {
  bound ??= {
    list: libc().func('int64_t listxattr(const char *path, void *names, size_t size)'),
    get: libc().func('int64_t getxattr(const char *path, const char *name, void *value, size_t size)'),
    listOfFile: libc().func('int64_t flistxattr(int fd, void *names, size_t size)'),
    setOnFile: libc().func('int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)'),
    removeFromFile: libc().func('int fremovexattr(int fd, const char *name)'),
    scratch: Buffer.allocUnsafeSlow(MAX_BYTES),
  };
  return bound;
}

/** Names of the extended attributes of what `path` leads to; links are followed. Throws SystemCallError. */
export function listXattrs(path: string): string[] {
  const { list, scratch } = calls();
  return names(scratch, checked('listxattr', list(path, scratch, scratch.length)));
}

/** Names of the extended attributes of an open file. Throws SystemCallError. */
export function listXattrsOfFile(fd: number): string[] {
  const { listOfFile, scratch } = calls();
  return names(scratch, checked('flistxattr', listOfFile(fd, scratch, scratch.length)));
}

/** A copy of one attribute's value. Throws SystemCallError, `ENODATA` when there is no such attribute. */
export function getXattr(path: string, name: string): Buffer {
  const { get, scratch } = calls();
  return Buffer.from(scratch.subarray(0, checked('getxattr', get(path, name, scratch, scratch.length))));
}

/** Creates or replaces one attribute. Throws SystemCallError, `EOPNOTSUPP` where the file system has no attributes. */
export function setXattrOnFile(fd: number, name: string, value: Buffer): void {
  checked('fsetxattr', calls().setOnFile(fd, name, value, value.length, 0));
}

/** Throws SystemCallError, `ENODATA` when there is no such attribute. */
export function removeXattrFromFile(fd: number, name: string): void {
  checked('fremovexattr', calls().removeFromFile(fd, name));
}

/** Splits the kernel's `name\0name\0`. */
function names(list: Buffer, length: number): string[] {
  if (length === 0) return [];
  return list.toString('utf8', 0, length - 1).split('\0');
}
