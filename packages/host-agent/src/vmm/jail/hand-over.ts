import { chmodSync, chownSync, statSync } from 'node:fs';

export const TUN_DEVICE = '/dev/net/tun';

/** The user alone can read and write it. */
export function giveFile(path: string, userId: number): void {
  chownSync(path, userId, userId);
  chmodSync(path, 0o600);
}

/** Nobody can write to it any more, root excepted. */
export function keepFile(path: string): void {
  const { uid, gid, mode } = statSync(path);
  if (uid !== 0 || gid !== 0) chownSync(path, 0, 0);
  if ((mode & 0o777) !== 0o444) chmodSync(path, 0o444);
}

/**
 * Everybody may open the device: what one does with it needs a privilege, or a TAP that belongs to one. Where udev runs it is so
 * from the start. Source: Linux, Documentation/networking/tuntap.rst; udev's 50-udev-default.rules.
 */
export function openTunDevice(): void {
  const { mode } = statSync(TUN_DEVICE);
  if ((mode & 0o666) !== 0o666) chmodSync(TUN_DEVICE, 0o666);
}

/** The folder's own parent is closed to users of the host. */
export function letThrough(folder: string): void {
  const { mode } = statSync(folder);
  if ((mode & 0o011) !== 0o011) chmodSync(folder, (mode & 0o777) | 0o011);
}
