import { lstat, realpath, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { type EntryInfo, EntryInfoSchema, FileType } from '@nestbox/contract/filesystem';
import { groupName, userName } from '../users.ts';
import { errorCode } from './error-code.ts';
import { goFileMode } from './file-mode.ts';
import { readMetadata } from './metadata.ts';

const PERMISSION_BITS = 0o777;
const NANOSECONDS = 1_000_000_000n;

/**
 * Describes what lies at `path` itself (a link is not followed for size, time, owner and permissions), in the form of
 * envd-interface.md, section 4.3. Throws the errors of lstat(2).
 * @param shownPath what to name in the answer instead of `path`
 */
export async function entryInfo(path: string, shownPath = path): Promise<EntryInfo> {
  const self = await lstat(path, { bigint: true });
  const link = self.isSymbolicLink() ? await followLink(path) : undefined;
  const shown = link ?? { type: fileType(self), mode: Number(self.mode) };
  // The remainder must not be negative for times before 1970.
  const nanos = ((self.mtimeNs % NANOSECONDS) + NANOSECONDS) % NANOSECONDS;
  return create(EntryInfoSchema, {
    name: basename(shownPath) || '/',
    type: shown.type,
    path: shownPath,
    size: self.size,
    mode: shown.mode & PERMISSION_BITS,
    permissions: goFileMode(Number(self.mode)),
    owner: userName(Number(self.uid)),
    group: groupName(Number(self.gid)),
    modifiedTime: { seconds: (self.mtimeNs - nanos) / NANOSECONDS, nanos: Number(nanos) },
    metadata: readMetadata(path),
    ...(link !== undefined && { symlinkTarget: link.target }),
  });
}

interface LinkEnd {
  /** The path with every link resolved; the link's own path when it leads nowhere. */
  readonly target: string;
  readonly type: FileType;
  readonly mode: number;
}

async function followLink(path: string): Promise<LinkEnd> {
  try {
    const target = await realpath(path);
    const end = await stat(target);
    return { target, type: fileType(end), mode: end.mode };
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
    return { target: path, type: FileType.UNSPECIFIED, mode: 0 };
  }
}

function fileType(entry: { isFile(): boolean; isDirectory(): boolean }): FileType {
  if (entry.isFile()) return FileType.FILE;
  return entry.isDirectory() ? FileType.DIRECTORY : FileType.UNSPECIFIED;
}
