import { chmod, chown, stat } from 'node:fs/promises';

export const TUN_DEVICE = '/dev/net/tun';

/** The user alone can read and write it. */
export async function giveFile(path: string, userId: number): Promise<void> {
  await chown(path, userId, userId);
  await chmod(path, 0o600);
}

/** Nobody can write to it any more, root excepted. */
export async function keepFile(path: string): Promise<void> {
  const { uid, gid, mode } = await stat(path);
  if (uid !== 0 || gid !== 0) await chown(path, 0, 0);
  if ((mode & 0o777) !== 0o444) await chmod(path, 0o444);
}

/**
 * Everybody may open the device: what one does with it needs a privilege, or a TAP that belongs to one. Where udev runs it is so
 * from the start. Source: Linux, Documentation/networking/tuntap.rst; udev's 50-udev-default.rules.
 */
export async function openTunDevice(): Promise<void> {
  const { mode } = await stat(TUN_DEVICE);
  if ((mode & 0o666) !== 0o666) await chmod(TUN_DEVICE, 0o666);
}

/** The folder's own parent is closed to users of the host. */
export async function letThrough(folder: string): Promise<void> {
  const { mode } = await stat(folder);
  if ((mode & 0o011) !== 0o011) await chmod(folder, (mode & 0o777) | 0o011);
}
