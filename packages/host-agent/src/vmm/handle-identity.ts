import { resolve, sep } from 'node:path';
import type { VmHandle } from './driver.ts';

/** One VM, and no later one of the same sandbox. */
export function handleKey(handle: VmHandle): string {
  return `${handle.vmId} ${handle.process.pid} ${handle.process.startTicks}`;
}

/** Whether a path can be a run folder of ours. One out of a damaged handle may name a folder of somebody else. */
export function isRunDirBelow(runRoot: string, path: string): boolean {
  return path === resolve(path) && path.startsWith(resolve(runRoot) + sep);
}
