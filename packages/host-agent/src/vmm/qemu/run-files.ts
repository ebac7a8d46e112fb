import { rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { beginConsole } from '../console.ts';

/** Files that QEMU and the driver share in a VM's run folder. */
export function qemuRunFiles(runDir: string) {
  return {
    /** QEMU's own folder, the only one it can make files in. Nothing in it is read by us, the socket excepted. */
    controlDir: join(runDir, CONTROL_DIR),
    qmpSocket: join(runDir, CONTROL_DIR, QMP_SOCKET),
    /** QEMU's own standard output and error. */
    log: join(runDir, 'qemu.log'),
    /** Symbolic link to the sandbox's console log, so that it is found again from the run folder. */
    console: join(runDir, 'console'),
  } as const;
}

const CONTROL_DIR = 'control';
const QMP_SOCKET = 'qmp.sock';

/** The run folder that a control socket belongs to; undefined when the path is no control socket. */
export function runDirOfSocket(socketPath: string): string | undefined {
  // VMs from before there was a jail had it right in the run folder; they are still to be found and ended.
  for (const end of [`/${CONTROL_DIR}/${QMP_SOCKET}`, `/${QMP_SOCKET}`])
    if (socketPath.endsWith(end)) return socketPath.slice(0, -end.length);
  return undefined;
}

/** Removes the files above, and nothing else. What is gone is fine. */
export async function removeRunFiles(runDir: string): Promise<void> {
  for (const path of Object.values(qemuRunFiles(runDir))) {
    await rm(path, { recursive: true, force: true }).catch((error: unknown) => {
      // The "run folder" is a file.
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOTDIR')) throw error;
    });
  }
}

/** `beginConsole`, with the link to the log. */
export async function linkConsole(runDir: string, consolePath: string, note: string): Promise<number> {
  const consoleStart = await beginConsole(consolePath, note);
  await symlink(consolePath, qemuRunFiles(runDir).console);
  return consoleStart;
}
