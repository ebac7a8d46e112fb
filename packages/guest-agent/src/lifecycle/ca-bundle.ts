import { X509Certificate } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { RestError } from '../rest.ts';

/** Where the distributions keep the certificates that programs trust, in one file. */
const TRUST_STORES = ['/etc/ssl/certs/ca-certificates.crt', '/etc/pki/tls/certs/ca-bundle.crt', '/etc/ssl/cert.pem'];
/** `update-ca-certificates` makes the file anew out of this folder. */
const LOCAL_CERTIFICATE = '/usr/local/share/ca-certificates/nestbox.crt';
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** The certificates of a PEM text. Throws RestError 400 when there is none or one is damaged. */
export function parseCaBundle(pem: string): string[] {
  const certificates = pem.match(CERTIFICATE) ?? [];
  if (certificates.length === 0) throw new RestError(400, 'caBundle holds no PEM certificate');
  for (const certificate of certificates) {
    try {
      new X509Certificate(certificate);
    } catch (cause) {
      throw new RestError(400, 'caBundle holds a damaged certificate', { cause });
    }
  }
  return certificates;
}

/** Adds certificates to what the guest's programs trust. Those that are there are not added again. */
export class TrustStore {
  readonly #stores: readonly string[];
  readonly #localCertificate: string;
  #busy: boolean = false;

  constructor(stores: readonly string[] = TRUST_STORES, localCertificate = LOCAL_CERTIFICATE) {
    this.#stores = stores;
    this.#localCertificate = localCertificate;
  }

  /** Throws RestError: 400 for what is no certificate, 503 while another bundle is being added. */
  async add(pem: string): Promise<void> {
    const certificates = parseCaBundle(pem);
    if (this.#busy) throw new RestError(503, 'another CA bundle is being installed');
    this.#busy = true;
    try {
      const present = this.#stores.filter((path) => existsSync(path));
      for (const store of present.length > 0 ? present : this.#stores.slice(0, 1)) await append(store, certificates);
      await append(this.#localCertificate, certificates);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new RestError(400, `the CA bundle could not be installed: ${reason}`, { cause });
    } finally {
      this.#busy = false;
    }
  }
}

async function append(path: string, certificates: readonly string[]): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const text = existsSync(path) ? await readFile(path, 'utf8') : '';
  const missing = certificates.filter((certificate) => !text.includes(certificate));
  if (missing.length === 0) return;
  const separator = text === '' || text.endsWith('\n') ? '' : '\n';
  await writeFile(path, `${text}${separator}${missing.join('\n')}\n`);
}
