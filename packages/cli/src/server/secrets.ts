import { randomBytes, randomUUID } from 'node:crypto';
import { link, mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { NestboxPaths } from '@nestbox/kit';
import { writeFileAtomic } from '@nestbox/kit';

/** The secrets of one installation, made by the first start and kept (files of mode 0600 in the state folder). */
export interface Secrets {
  /** `e2b_` and 40 hex digits: the form that the e2b clients expect. */
  readonly apiKey: string;
  /** What administrators send: it makes teams and keys. 64 hex digits. */
  readonly adminToken: string;
  /** Key of the HMAC by which sandbox tokens are made from sandbox ids. 64 hex digits. */
  readonly tokenSeed: string;
}

export async function readOrMakeSecrets(paths: NestboxPaths): Promise<Secrets> {
  await mkdir(paths.stateDir, { recursive: true, mode: 0o711 });
  return {
    apiKey: await readOrMake(apiKeyPath(paths), () => `e2b_${randomBytes(20).toString('hex')}`),
    adminToken: await readOrMake(adminTokenPath(paths), () => randomBytes(32).toString('hex')),
    tokenSeed: await readOrMake(join(paths.stateDir, 'token-seed'), () => randomBytes(32).toString('hex')),
  };
}

export function apiKeyPath(paths: NestboxPaths): string {
  return join(paths.stateDir, 'api-key');
}

export function adminTokenPath(paths: NestboxPaths): string {
  return join(paths.stateDir, 'admin-token');
}

/** Two processes at once agree on one secret: link(2) lets the first one win. */
async function readOrMake(path: string, make: () => string): Promise<string> {
  const existing = await readSecret(path);
  if (existing !== undefined) return existing;
  const temporary = `${path}.${randomUUID()}`;
  try {
    await writeFileAtomic(temporary, `${make()}\n`, 0o600);
    await link(temporary, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(temporary, { force: true });
  }
  const secret = await readSecret(path);
  if (secret === undefined) throw new Error(`${path} is empty; remove it and start again`);
  return secret;
}

/** Undefined when there is no such file. */
export async function readSecret(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim() || undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
