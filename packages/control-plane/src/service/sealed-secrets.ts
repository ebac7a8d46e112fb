import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import { promisify } from 'node:util';
import { z } from 'zod';

/** What all servers of an installation have in common. */
export interface InstallationSecrets {
  readonly apiKey: string;
  readonly adminToken: string;
  readonly tokenSeed: string;
}

const secretsForm = z.object({ apiKey: z.string(), adminToken: z.string(), tokenSeed: z.string() });

const FORM = 'v1';
const CIPHER = 'aes-256-gcm';
/** 32 MiB and some 0.1 s for each guess at the password. Source: RFC 7914, section 2. */
const SCRYPT = { N: 2 ** 15, r: 8, p: 1, maxmem: 64 * 1024 ** 2 } as const;
const deriveKey = promisify<string, Buffer, number, typeof SCRYPT, Buffer>(scrypt);

/** Secrets as only those can read them who have the password. `mark` is bound to them, and no secret. */
export async function sealSecrets(secrets: InstallationSecrets, password: string, mark: string): Promise<string> {
  const salt = randomBytes(16);
  const iv = randomBytes(12);
  const cipher = createCipheriv(CIPHER, await deriveKey(password, salt, 32, SCRYPT), iv).setAAD(Buffer.from(mark));
  const { apiKey, adminToken, tokenSeed } = secrets;
  const data = Buffer.concat([cipher.update(JSON.stringify({ apiKey, adminToken, tokenSeed })), cipher.final()]);
  return [FORM, ...[salt, iv, cipher.getAuthTag(), data].map((part) => part.toString('base64url'))].join('.');
}

/** Undefined when they were sealed with another password, for another mark, or by a version that this one does not know. */
export async function openSecrets(
  sealed: string,
  password: string,
  mark: string,
): Promise<InstallationSecrets | undefined> {
  const [form, ...parts] = sealed.split('.');
  const [salt, iv, tag, data] = parts.map((part) => Buffer.from(part, 'base64url'));
  if (form !== FORM || salt === undefined || iv === undefined || tag === undefined || data === undefined)
    return undefined;
  const key = await deriveKey(password, salt, 32, SCRYPT);
  try {
    const decipher = createDecipheriv(CIPHER, key, iv, { authTagLength: 16 });
    decipher.setAAD(Buffer.from(mark)).setAuthTag(tag);
    const text = Buffer.concat([decipher.update(data), decipher.final()]).toString();
    return secretsForm.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
