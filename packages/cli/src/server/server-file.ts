import { readFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  isProcessAlive,
  type NestboxPaths,
  type ProcessIdentity,
  readProcessIdentity,
  writeFileAtomic,
} from '@nestbox/kit';
import { z } from 'zod';

/** `server.json`: where the running server listens. Other commands find it by this; it counts only while its process lives. */
const serverFile = z.object({
  apiUrl: z.url(),
  sandboxUrl: z.url(),
  tls: z
    .object({
      domain: z.string(),
      authority: z.object({ caPath: z.string(), bundlePath: z.string() }).optional(),
    })
    .optional(),
  pid: z.int().positive(),
  /** With the pid it names the process beyond doubt (proc_pid_stat(5), field 22). */
  startTicks: z.int(),
  version: z.string(),
  startedAtMs: z.int(),
});

export type RunningServer = z.infer<typeof serverFile>;

function serverFilePath(paths: NestboxPaths): string {
  return join(paths.stateDir, 'server.json');
}

/** Announces that this process serves `paths.stateDir`. Returns the undo. */
export async function announceServer(
  paths: NestboxPaths,
  server: Omit<RunningServer, 'pid' | 'startTicks' | 'startedAtMs'>,
): Promise<() => Promise<void>> {
  await mkdir(paths.stateDir, { recursive: true, mode: 0o711 });
  const path = serverFilePath(paths);
  const content: RunningServer = { ...server, ...ownIdentity(), startedAtMs: Date.now() };
  // Holds no secret: users without root may read where the server is; the key is another file's business.
  await writeFileAtomic(path, `${JSON.stringify(content)}\n`, 0o644);
  return () => rm(path, { force: true });
}

/** The server that runs on this state folder now; undefined when there is none, or only the file of a dead one. */
export function findRunningServer(paths: NestboxPaths): RunningServer | undefined {
  let text: string;
  try {
    text = readFileSync(serverFilePath(paths), 'utf8');
  } catch {
    return undefined;
  }
  const parsed = serverFile.safeParse(parseJson(text));
  return parsed.success && isProcessAlive(parsed.data) ? parsed.data : undefined;
}

function ownIdentity(): ProcessIdentity {
  return readProcessIdentity(process.pid) ?? { pid: process.pid, startTicks: 0 };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
