import { checked, libc } from './libc.ts';

export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MS_NOEXEC = 8;
export const MS_RELATIME = 1 << 21;
const MNT_DETACH = 2;

type MountCall = (source: string, target: string, type: string, flags: number, data: string | null) => number;

function mountFunction() {
  return libc().func(
    'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
  );
}

/** mount(2). Throws SystemCallError. */
export function mount(source: string, target: string, type: string, flags: number, data?: string): void {
  const call: MountCall = mountFunction();
  checked(`mount ${target}`, call(source, target, type, flags, data ?? null));
}

/** As `mount`, off the main thread: a network mount waits for its server. */
export function mountInBackground(
  source: string,
  target: string,
  type: string,
  flags: number,
  data: string,
): Promise<void> {
  const call = mountFunction();
  return new Promise((resolve, reject) => {
    call.async(source, target, type, flags, data, (error: Error | null, result: number) => {
      try {
        if (error) throw error;
        checked(`mount ${target}`, result);
        resolve();
      } catch (failure) {
        reject(failure);
      }
    });
  });
}

/** Takes a mount out of the tree at once; what still uses it keeps it until then (MNT_DETACH). Throws SystemCallError. */
export function unmount(target: string): void {
  const call: (target: string, flags: number) => number = libc().func('int umount2(const char *target, int flags)');
  checked(`umount ${target}`, call(target, MNT_DETACH));
}
