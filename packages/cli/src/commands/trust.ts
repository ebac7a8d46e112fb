import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { resolvePaths } from '@nestbox/kit';
import type { Command } from 'commander';
import { findRunningServer } from '../server/server-file.ts';
import { parseDomain } from '../tls-option.ts';

const DEFAULT_DOMAIN = 'nestbox.localhost';

export interface TrustOptions {
  readonly domain?: string;
  readonly pem?: boolean;
  readonly json?: boolean;
}

export function addTrust(program: Command): void {
  program
    .command('trust')
    .description('show the authority behind nestbox up --tls auto, and how programs come to trust it')
    .option(
      '--domain <domain>',
      'whose authority (default: that of the running server, else nestbox.localhost)',
      parseDomain,
    )
    .option('--pem', 'print its certificate alone')
    .option('--json', 'print JSON')
    .action(trust);
}

async function trust(options: TrustOptions): Promise<void> {
  const paths = resolvePaths();
  const domain = options.domain ?? runningDomain() ?? DEFAULT_DOMAIN;
  // Loaded only here: most commands have no use for it.
  const { authorityFiles, ensureAuthority } = await import('@nestbox/control-plane/tls');
  const files = authorityFiles(paths.stateDir, domain);
  let pem: string;
  try {
    pem = await readFile(files.caPath, 'utf8');
  } catch (cause) {
    if (process.geteuid?.() !== 0)
      throw new NestboxError(
        'not_found',
        `There is no authority for ${domain} yet. The first nestbox up --tls auto --domain ${domain} makes it.`,
        { cause },
      );
    await ensureAuthority(paths.stateDir, domain);
    pem = await readFile(files.caPath, 'utf8');
  }
  const { caPath, bundlePath } = files;
  const certificate = new X509Certificate(pem);
  const { fingerprint256: fingerprint } = certificate;
  const validTo = certificate.validToDate.toISOString();
  const environment = { NODE_EXTRA_CA_CERTS: caPath, SSL_CERT_FILE: bundlePath };
  if (options.json) console.log(JSON.stringify({ domain, caPath, bundlePath, fingerprint, validTo, environment, pem }));
  else if (options.pem) console.log(pem.trim());
  else console.log(explanation({ domain, caPath, bundlePath, fingerprint, validTo }));

  function runningDomain(): string | undefined {
    const tls = findRunningServer(paths)?.tls;
    return tls?.authority === undefined ? undefined : tls.domain.replace(/:[0-9]+$/, '');
  }
}

interface Explained {
  readonly domain: string;
  readonly caPath: string;
  readonly bundlePath: string;
  readonly fingerprint: string;
  readonly validTo: string;
}

function explanation({ domain, caPath, bundlePath, fingerprint, validTo }: Explained): string {
  return `This server's certificates come from an authority of its own. It can vouch for ${domain} and the names below it,
and for nothing else; its key never leaves this machine.

  certificate  ${caPath}
  SHA-256      ${fingerprint}
  valid until  ${validTo.slice(0, 10)}

Programs that are to trust it, here or (with a copy of the file) on another machine:

  Node.js           export NODE_EXTRA_CA_CERTS=${caPath}
  Python, OpenSSL   export SSL_CERT_FILE=${bundlePath}
  curl              curl --cacert ${caPath} …
  all of Debian     sudo cp ${caPath} /usr/local/share/ca-certificates/nestbox-${domain}.crt && sudo update-ca-certificates
  Firefox, Chrome   import the certificate as an authority for web sites

eval "$(nestbox env)" sets the first two. nestbox trust --pem prints the certificate.`;
}
