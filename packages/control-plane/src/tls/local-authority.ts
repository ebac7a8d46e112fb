import { createPrivateKey, randomBytes, X509Certificate } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { NestboxError } from '@nestbox/contract';
import { CommandError, runCommand, writeFileAtomic } from '@nestbox/kit';
import type { CertificatePair, CertificateSource } from './certificate-source.ts';

const AUTHORITY_DAYS = 3650;
/** Clients of some vendors take no longer ones (825 days since 2019). */
const SERVER_DAYS = 397;
const RENEW_BEFORE_MS = 30 * 24 * 3_600_000;

/** The files of one domain's authority, `<state>/tls/<domain>/`. Keys are 0600, the rest is for every user to read. */
export interface AuthorityFiles {
  readonly folder: string;
  /** The authority's certificate: what clients are to trust. */
  readonly caPath: string;
  readonly caKeyPath: string;
  /** The authority's certificate together with the well-known ones, for programs that take one file alone. */
  readonly bundlePath: string;
  readonly certPath: string;
  readonly keyPath: string;
}

export function authorityFiles(stateDir: string, domain: string): AuthorityFiles {
  const folder = join(stateDir, 'tls', domain);
  return {
    folder,
    caPath: join(folder, 'authority.pem'),
    caKeyPath: join(folder, 'authority-key.pem'),
    bundlePath: join(folder, 'bundle.pem'),
    certPath: join(folder, 'server.pem'),
    keyPath: join(folder, 'server-key.pem'),
  };
}

/**
 * Makes the authority of a domain unless it is there. It can vouch for names under that domain alone (X.509 name
 * constraints), so that whoever trusts it trusts it for nothing else. Throws NestboxError `not_set_up` without OpenSSL.
 */
export async function ensureAuthority(stateDir: string, domain: string, signal?: AbortSignal): Promise<AuthorityFiles> {
  const files = authorityFiles(stateDir, domain);
  if (!(await exists(files.caPath))) await makeAuthority(stateDir, domain, signal);
  const ca = await readFile(files.caPath, 'utf8');
  await writeFileAtomic(files.bundlePath, `${[ca.trim(), ...rootCertificates].join('\n')}\n`, 0o644);
  return files;
}

/** The authority as a source: issues a certificate for the domain and all names right below it, and renews it in time. */
export function authorityCertificates(stateDir: string, domain: string): CertificateSource {
  return {
    async load() {
      const files = authorityFiles(stateDir, domain);
      const usable = await readUsable(files, domain);
      if (usable !== undefined) return usable;
      await ensureAuthority(stateDir, domain);
      return await issue(files, domain);
    },
  };
}

/** A crash leaves all of it or nothing: beside, then renamed as a whole. Of two processes at once the first one wins. */
async function makeAuthority(stateDir: string, domain: string, signal?: AbortSignal): Promise<void> {
  const parent = join(stateDir, 'tls');
  await mkdir(parent, { recursive: true, mode: 0o755 });
  const fresh = await mkdtemp(join(parent, '.new-'));
  try {
    await chmod(fresh, 0o755);
    const { key, cert } = await openssl(
      [
        ...['req', '-x509', '-days', String(AUTHORITY_DAYS), '-subj', `/CN=Nestbox of ${shortened(domain)}`],
        ...extension('basicConstraints', 'critical,CA:TRUE,pathlen:0'),
        ...extension('keyUsage', 'critical,keyCertSign,cRLSign'),
        ...extension('subjectKeyIdentifier', 'hash'),
        ...extension('nameConstraints', `critical,permitted;DNS:${domain},${NO_ADDRESSES}`),
      ],
      signal,
    );
    await writeFile(join(fresh, 'authority-key.pem'), key, { mode: 0o600 });
    await writeFile(join(fresh, 'authority.pem'), cert, { mode: 0o644 });
    await rename(fresh, authorityFiles(stateDir, domain).folder).catch(async (error: unknown) => {
      if (!(await exists(authorityFiles(stateDir, domain).caPath))) throw error;
    });
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

/** Without these, addresses would not be constrained: RFC 5280, section 4.2.1.10. */
const NO_ADDRESSES = 'excluded;IP:0.0.0.0/0.0.0.0,excluded;IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0';

async function issue(files: AuthorityFiles, domain: string): Promise<CertificatePair> {
  const { key, cert } = await openssl([
    ...['req', '-x509', '-CA', files.caPath, '-CAkey', files.caKeyPath, '-days', String(SERVER_DAYS)],
    ...['-set_serial', `0x${randomSerial()}`, '-subj', `/CN=${shortened(domain)}`],
    ...extension('basicConstraints', 'critical,CA:FALSE'),
    ...extension('keyUsage', 'critical,digitalSignature'),
    ...extension('extendedKeyUsage', 'serverAuth'),
    ...extension('subjectAltName', `DNS:${domain},DNS:*.${domain}`),
  ]);
  const pair = { cert: `${cert.trim()}\n${(await readFile(files.caPath, 'utf8')).trim()}\n`, key };
  await writeFileAtomic(files.keyPath, pair.key, 0o600);
  await writeFileAtomic(files.certPath, pair.cert, 0o644);
  return pair;
}

/** What was issued before, unless it ends soon, belongs to another authority, or is not whole. */
async function readUsable(files: AuthorityFiles, domain: string): Promise<CertificatePair | undefined> {
  try {
    const [ca, cert, key] = await Promise.all(
      [files.caPath, files.certPath, files.keyPath].map((path) => readFile(path, 'utf8')),
    );
    if (ca === undefined || cert === undefined || key === undefined) return undefined;
    const parsed = new X509Certificate(cert);
    const authority = new X509Certificate(ca);
    const fits =
      parsed.verify(authority.publicKey) &&
      parsed.checkPrivateKey(createPrivateKey(key)) &&
      parsed.checkHost(`api.${domain}`) !== undefined &&
      parsed.validToDate.getTime() - Date.now() > RENEW_BEFORE_MS;
    return fits ? { cert, key } : undefined;
  } catch {
    return undefined;
  }
}

/** Runs `openssl req` with a fresh P-256 key. The key travels by pipe, so that it is nowhere but where we put it. */
async function openssl(args: readonly string[], signal?: AbortSignal): Promise<{ key: string; cert: string }> {
  const fresh = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-sha256', '-keyout', '-'];
  let output: string;
  try {
    const result = await runCommand('openssl', [...args, ...fresh, '-config', '/dev/null'], {
      ...(signal === undefined ? {} : { signal }),
    });
    output = result.stdout;
  } catch (cause) {
    if (cause instanceof CommandError && cause.exitCode === undefined && signal?.aborted !== true)
      throw new NestboxError(
        'not_set_up',
        'Making certificates needs OpenSSL 3. Run: sudo apt-get install openssl (or give a certificate of your own: --tls CERT,KEY).',
        { cause },
      );
    throw cause;
  }
  const key = /-----BEGIN PRIVATE KEY-----[\s\S]*?-----END PRIVATE KEY-----\n/.exec(output)?.[0];
  const cert = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----\n/.exec(output)?.[0];
  if (key === undefined || cert === undefined)
    throw new NestboxError('internal', 'openssl answered neither key nor certificate.');
  return { key, cert };
}

function extension(name: string, value: string): string[] {
  return ['-addext', `${name}=${value}`];
}

/** 127 random bits, never negative. Source: CA/Browser Forum baseline, 64 at least. */
function randomSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString('hex');
}

/** A common name holds 64 characters; what counts are the names in the extension. */
function shortened(domain: string): string {
  return domain.length > 48 ? `${domain.slice(0, 47)}.` : domain;
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
