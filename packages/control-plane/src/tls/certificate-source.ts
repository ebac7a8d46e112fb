import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { createSecureContext } from 'node:tls';
import { NestboxError } from '@nestbox/contract';
import type { Logger } from '@nestbox/kit';

/** A certificate with its chain, and its key, both PEM. */
export interface CertificatePair {
  readonly cert: string;
  readonly key: string;
}

/** Where a listener's certificate comes from. Asked again and again, since certificates are renewed. */
export interface CertificateSource {
  /** Throws NestboxError when there is none that can be used. */
  load(): Promise<CertificatePair>;
}

/** The operator's own files, whoever renews them. */
export function certificateFiles(certPath: string, keyPath: string): CertificateSource {
  return {
    async load() {
      const pair = { cert: await readPem(certPath), key: await readPem(keyPath) };
      checkPair(pair, certPath, keyPath);
      return pair;
    },
  };
}

async function readPem(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new NestboxError('invalid_request', `${path} cannot be read: ${reasonOf(cause)}`, { cause });
  }
}

function checkPair({ cert, key }: CertificatePair, certPath: string, keyPath: string): void {
  let belongs: boolean;
  try {
    belongs = new X509Certificate(cert).checkPrivateKey(createPrivateKey(key));
    if (belongs) createSecureContext({ cert, key });
  } catch (cause) {
    throw new NestboxError(
      'invalid_request',
      `${certPath} and ${keyPath} must be a certificate and its key in PEM: ${reasonOf(cause)}`,
      { cause },
    );
  }
  if (!belongs) throw new NestboxError('invalid_request', `The key ${keyPath} is not that of ${certPath}.`);
}

/** Half-written files and missed events are no matter: what is wrong now is looked at again a moment later. */
const LOOK_EVERY_MS = 10_000;

/**
 * Calls `onChange` whenever the source has another certificate than `current`, until the signal is aborted. While what it
 * has cannot be used, the one in use stays, and the log says so once.
 */
export async function watchCertificate(
  source: CertificateSource,
  current: CertificatePair,
  onChange: (pair: CertificatePair) => void,
  logger: Logger,
  signal: AbortSignal,
  everyMs: number = LOOK_EVERY_MS,
): Promise<void> {
  let known = current;
  let complained: string | undefined;
  while (await slept(everyMs, signal)) {
    try {
      const pair = await source.load();
      complained = undefined;
      if (pair.cert === known.cert && pair.key === known.key) continue;
      onChange(pair);
      known = pair;
      logger.info({ validTo: new X509Certificate(pair.cert).validTo }, 'A new certificate is in use');
    } catch (error) {
      const reason = reasonOf(error);
      if (reason !== complained) logger.warn({ err: error }, 'The certificate cannot be renewed; the last one stays');
      complained = reason;
    }
  }
}

/** False: aborted. */
async function slept(ms: number, signal: AbortSignal): Promise<boolean> {
  try {
    await sleep(ms, undefined, { signal, ref: false });
    return true;
  } catch {
    return false;
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
