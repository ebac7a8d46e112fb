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

/** `choose` decides what to keep: given those of the folder, or undefined when it has none yet. What is there stays. */
export async function readOrMakeSecrets(
  paths: NestboxPaths,
  choose: (own: Secrets | undefined) => Promise<Secrets> | Secrets = (own) => own ?? makeSecrets(),
): Promise<Secrets> {
  await mkdir(paths.stateDir, { recursive: true, mode: 0o711 });
  const made = makeSecrets();
  const tokenSeed = await readSecret(tokenSeedPath(paths));
  const own = tokenSeed === undefined ? undefined : await keepSecrets(paths, { ...made, tokenSeed });
  return await keepSecrets(paths, await choose(own));
}

export function makeSecrets(): Secrets {
  return {
    apiKey: `e2b_${randomBytes(20).toString('hex')}`,
    adminToken: randomBytes(32).toString('hex'),
    tokenSeed: randomBytes(32).toString('hex'),
  };
}

/** The seed last: whoever finds it finds the others. */
async function keepSecrets(paths: NestboxPaths, secrets: Secrets): Promise<Secrets> {
  return {
    apiKey: await readOrKeep(apiKeyPath(paths), secrets.apiKey),
    adminToken: await readOrKeep(adminTokenPath(paths), secrets.adminToken),
    tokenSeed: await readOrKeep(tokenSeedPath(paths), secrets.tokenSeed),
  };
}

function tokenSeedPath(paths: NestboxPaths): string {
  return join(paths.stateDir, 'token-seed');
}

export function apiKeyPath(paths: NestboxPaths): string {
  return join(paths.stateDir, 'api-key');
}

export function adminTokenPath(paths: NestboxPaths): string {
  return join(paths.stateDir, 'admin-token');
}

/** Two processes at once agree on one secret: link(2) lets the first one win. */
async function readOrKeep(path: string, value: string): Promise<string> {
  const existing = await readSecret(path);
  if (existing !== undefined) return existing;
  const temporary = `${path}.${randomUUID()}`;
  try {
    await writeFileAtomic(temporary, `${value}\n`, 0o600);
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
