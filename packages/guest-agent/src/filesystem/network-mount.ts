import { statfs } from 'node:fs/promises';

/** `f_type` of statfs(2) of file systems whose changes may come from elsewhere, which inotify does not see. */
const NETWORK_MAGIC: ReadonlySet<number> = new Set([
  0x6969, // NFS
  0x517b, // SMB
  0xff53_4d42, // CIFS
  0xfe53_4d42, // SMB2
  0x6573_5546, // FUSE
]);

/** @param magic `f_type` of statfs(2), sign-extended or not */
export function isNetworkMagic(magic: number): boolean {
  return NETWORK_MAGIC.has(magic >>> 0);
}

/** Whether `path` lies on NFS, SMB or FUSE. Throws the errors of statfs(2). */
export async function isOnNetworkMount(path: string): Promise<boolean> {
  return isNetworkMagic((await statfs(path)).type);
}
