/** One entry of an initial RAM disk. Folders must come before what they hold: the kernel makes no parents. */
export type CpioEntry =
  | { readonly kind: 'directory'; readonly path: string; readonly mode: number }
  | { readonly kind: 'file'; readonly path: string; readonly mode: number; readonly content: Uint8Array }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string }
  | {
      readonly kind: 'character-device';
      readonly path: string;
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    };

/** Type bits of a mode (inode(7)). */
const TYPE_BITS = { directory: 0o040_000, file: 0o100_000, symlink: 0o120_000, 'character-device': 0o020_000 } as const;

/** Everything in a newc archive, headers with names and data alike, begins at a multiple of this. */
const ALIGNMENT = 4;

/**
 * Packs entries as the kernel's initramfs wants them: cpio "newc", all owned by root, all times zero, inode numbers
 * counted, so that the same entries give the same bytes.
 * Source: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
 */
export function packCpio(entries: Iterable<CpioEntry>): Uint8Array {
  const parts: Uint8Array[] = [];
  let inode = 0;
  for (const entry of entries) {
    inode += 1;
    parts.push(...packEntry(entry, inode));
  }
  parts.push(header({ name: 'TRAILER!!!', inode: 0, mode: 0, links: 1, size: 0, major: 0, minor: 0 }));
  return Buffer.concat(parts);
}

function packEntry(entry: CpioEntry, inode: number): Uint8Array[] {
  const content = contentOf(entry);
  const permissions = entry.kind === 'symlink' ? 0o777 : entry.mode;
  const device = entry.kind === 'character-device' ? entry : { major: 0, minor: 0 };
  return [
    header({
      name: entry.path,
      inode,
      mode: TYPE_BITS[entry.kind] | permissions,
      links: entry.kind === 'directory' ? 2 : 1,
      size: content.length,
      major: device.major,
      minor: device.minor,
    }),
    content,
    padding(content.length),
  ];
}

function contentOf(entry: CpioEntry): Uint8Array {
  if (entry.kind === 'file') return entry.content;
  return entry.kind === 'symlink' ? Buffer.from(entry.target) : new Uint8Array(0);
}

interface HeaderFields {
  readonly name: string;
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly size: number;
  readonly major: number;
  readonly minor: number;
}

function header({ name, inode, mode, links, size, major, minor }: HeaderFields): Uint8Array {
  const nameBytes = Buffer.from(`${name}\0`);
  // magic, then: ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
  const fields = [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, nameBytes.length, 0];
  const head = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  return Buffer.concat([head, nameBytes, padding(head.length + nameBytes.length)]);
}

function padding(length: number): Uint8Array {
  return new Uint8Array((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT);
}
