import { isUtf8 } from 'node:buffer';
import { getXattr, listXattrs, listXattrsOfFile, removeXattrFromFile, setXattrOnFile } from '../system/xattr.ts';
import { errorCode } from './error-code.ts';

/** Where a file's metadata is kept: one extended attribute a key. */
export const METADATA_PREFIX = 'user.e2b.';

export type Metadata = Readonly<Record<string, string>>;

/** What says that a file system, or a kind of file, has no `user.` attributes. */
const UNSUPPORTED: ReadonlySet<string | undefined> = new Set(['EOPNOTSUPP', 'ENOTSUP', 'EPERM', 'ENOSYS']);

/**
 * The metadata of what `path` leads to. Best effort, as the wire has it: what cannot be read or is no UTF-8 is left out.
 */
export function readMetadata(path: string): Metadata {
  const metadata: [key: string, value: string][] = [];
  try {
    for (const name of listXattrs(path)) {
      if (!name.startsWith(METADATA_PREFIX) || name.includes('\uFFFD')) continue;
      const value = getXattr(path, name);
      if (isUtf8(value)) metadata.push([name.slice(METADATA_PREFIX.length), value.toString('utf8')]);
    }
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
  }
  return Object.fromEntries(metadata);
}

/**
 * Makes `metadata` the whole metadata of an open file; keys that it does not name are removed.
 * Does nothing where the file system has no extended attributes. Throws SystemCallError otherwise, ENOSPC among them.
 */
export function replaceMetadata(fd: number, metadata: Metadata): void {
  try {
    for (const name of listXattrsOfFile(fd)) {
      if (name.startsWith(METADATA_PREFIX) && !Object.hasOwn(metadata, name.slice(METADATA_PREFIX.length)))
        removeXattrFromFile(fd, name);
    }
    for (const [key, value] of Object.entries(metadata))
      setXattrOnFile(fd, `${METADATA_PREFIX}${key}`, Buffer.from(value, 'utf8'));
  } catch (error) {
    if (!UNSUPPORTED.has(errorCode(error))) throw error;
  }
}
