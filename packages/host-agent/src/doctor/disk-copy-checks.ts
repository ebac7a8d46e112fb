import { existsSync } from 'node:fs';
import { type CopySpeeds, measureCopies } from '../storage/measure-copies.ts';
import type { VmDisk } from '../vmm/driver.ts';
import type { HostCheck } from './host-check.ts';

/** Which way disks of sandboxes are copied, and what each way costs in the state folder. `formats`: those that the chosen driver reads. */
export async function checkDiskCopies(
  stateDir: string,
  formats: readonly VmDisk['format'][],
  measure: (folder: string) => Promise<CopySpeeds> = measureCopies,
): Promise<HostCheck> {
  const id = 'disk-copies';
  const name = 'Copies of disks';
  const layered = formats.includes('qcow2');
  const why = layered
    ? 'A sandbox’s disk is a thin layer on its template’s, on any file system.'
    : 'Each sandbox has a raw disk that is copied of another one, for which creates, resumes and forks wait.';
  if (!existsSync(stateDir))
    return {
      id,
      name,
      state: 'ok',
      found: `${usedWay(layered, undefined)} Not measured: there is no ${stateDir} yet.`,
      why,
      mend: undefined,
    };
  try {
    const speeds = await measure(stateDir);
    const slow = !layered && speeds.reflinkMs === undefined;
    return {
      id,
      name,
      state: slow ? 'warning' : 'ok',
      found: `${usedWay(layered, speeds)} ${describeSpeeds(speeds)}`,
      why,
      mend: slow
        ? 'Put the state folder (NESTBOX_DIR) on a file system with reflinks, e.g. XFS or Btrfs; or use --vmm qemu, which needs none.'
        : undefined,
    };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return {
      id,
      name,
      state: 'warning',
      found: `${usedWay(layered, undefined)} Not measured: ${reason}`,
      why,
      mend: 'Run as root, with some room on the disk of the state folder.',
    };
  }
}

function usedWay(layered: boolean, speeds: CopySpeeds | undefined): string {
  if (layered) return 'Layers (qcow2) are used, since this VM manager reads them: nothing is copied.';
  if (speeds === undefined) return 'Reflinks are used where the file system has them, else sparse copies.';
  return speeds.reflinkMs === undefined
    ? `Sparse copies are used, since ${speeds.fileSystem} has no reflinks here: a sandbox stands still while it is forked.`
    : `Reflinks are used, since ${speeds.fileSystem} has them.`;
}

function describeSpeeds({ fileSystem, bytes, reflinkMs, sparseMs }: CopySpeeds): string {
  const size = `${bytes / 2 ** 20} MiB`;
  const rate = Math.round((bytes / 2 ** 20 / Math.max(sparseMs, 1)) * 1000);
  const reflink = reflinkMs === undefined ? 'no reflinks' : `${size} by reflink in ${reflinkMs.toFixed(1)} ms`;
  return `On ${fileSystem}: ${reflink}; by a sparse copy in ${sparseMs.toFixed(0)} ms (${rate} MiB/s).`;
}
