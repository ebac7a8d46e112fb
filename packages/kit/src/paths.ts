import { createHash } from 'node:crypto';
import { join, resolve } from 'node:path';

/** The two folders of one installation. docs/on-disk-layout.md lists every file in them. */
export interface NestboxPaths {
  /** Durable state: `NESTBOX_DIR`, else (also when that is empty) /var/lib/nestbox. */
  readonly stateDir: string;
  /** Sockets and pids, gone with a reboot: /run/nestbox/<instance>. Kept short: a unix socket's path has 107 bytes. */
  readonly runDir: string;
  /** Six hex characters that tell this installation's kernel objects (namespaces, interfaces, cgroups) from another's. */
  readonly instance: string;
}

export function resolvePaths(env: NodeJS.ProcessEnv = process.env): NestboxPaths {
  const stateDir = resolve(env.NESTBOX_DIR || '/var/lib/nestbox');
  const instance = createHash('sha256').update(stateDir).digest('hex').slice(0, 6);
  return { stateDir, runDir: join('/run/nestbox', instance), instance };
}
