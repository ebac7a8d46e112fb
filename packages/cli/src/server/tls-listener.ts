import { lookup } from 'node:dns/promises';
import { resolve } from 'node:path';
import { authorityCertificates, certificateFiles, ensureAuthority } from '@nestbox/control-plane/tls';
import type { NestboxPaths } from '@nestbox/kit';
import type { TlsEndpoint } from '../client/endpoints.ts';
import type { TlsWish } from '../tls-option.ts';
import type { TlsListener } from './all-in-one.ts';

/** What `nestbox up` listens with over TLS, and what clients need to trust it. Undefined: not asked for. */
export interface TlsSetup {
  readonly listener: TlsListener;
  readonly authority: TlsEndpoint['authority'];
}

/** Throws NestboxError: not_set_up (no OpenSSL to make an authority with). */
export async function setUpTls(
  wish: TlsWish,
  domain: string,
  address: TlsListener['address'],
  paths: NestboxPaths,
  signal: AbortSignal,
): Promise<TlsSetup | undefined> {
  switch (wish.kind) {
    case 'off':
      return undefined;
    case 'files':
      return {
        listener: { address, certificate: certificateFiles(resolve(wish.certPath), resolve(wish.keyPath)) },
        authority: undefined,
      };
    case 'auto': {
      const { caPath, bundlePath } = await ensureAuthority(paths.stateDir, domain, signal);
      return {
        listener: { address, certificate: authorityCertificates(paths.stateDir, domain) },
        authority: { caPath, bundlePath },
      };
    }
  }
}

/** Undefined when names below the domain lead somewhere; else what to do, in a sentence. */
export async function nameAdvice(domain: string): Promise<string | undefined> {
  const name = `api.${domain}`;
  try {
    await lookup(name);
    return undefined;
  } catch {
    return domain === 'localhost' || domain.endsWith('.localhost')
      ? `Browsers and curl know that ${name} means this machine, other programs here do not yet. Run: sudo apt-get install libnss-myhostname`
      : `${name} does not lead anywhere yet. Make DNS records for ${domain} and *.${domain} that lead to this machine.`;
  }
}
