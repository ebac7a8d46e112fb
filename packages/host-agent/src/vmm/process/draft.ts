import { lstat, readlink, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { VmMachine } from '../driver.ts';

/** A file of a VM's own beside its root disk, gone with it. A link in the run folder leads to it, so that it is found again after a crash. */
export function draftPath({ disks, memoryPath, vmId }: VmMachine, what: string): string {
  return join(dirname(disks[0]?.path ?? memoryPath), `${vmId}.${what}`);
}

/** Removes what the links lead to, then the files and folders of a run folder, links included. What is gone is fine. */
export async function removeWithDrafts(runDir: string, links: readonly string[], paths: readonly string[]) {
  for (const link of links) {
    const target = await readlink(link).catch(() => undefined);
    if (target !== undefined) await rm(target, { recursive: true, force: true });
  }
  for (const path of paths) {
    await rm(path, { recursive: true, force: true }).catch(async (error: unknown) => {
      // The "run folder" is a file.
      if ((await lstat(runDir)).isDirectory()) throw error;
    });
  }
}
