import { libc } from './libc.ts';

const RB_POWER_OFF = 0x4321_fedc;
const RB_DISABLE_CAD = 0;

/** Writes what the kernel holds back to the disks; returns when that is done, without blocking the event loop. */
export function syncDisks(): Promise<void> {
  return new Promise((resolve) => {
    libc()
      .func('void sync()')
      .async(() => resolve());
  });
}

/** Lets Ctrl-Alt-Delete send SIGINT to us instead of resetting the machine. */
export function disableCtrlAltDelete(): void {
  libc().func('int reboot(int command)')(RB_DISABLE_CAD);
}

/** Ends the machine at once; file systems must be synced before. */
export function powerOff(): void {
  libc().func('int reboot(int command)')(RB_POWER_OFF | 0);
}
