import { InvalidArgumentError } from 'commander';

/** What `--tls` asks for. */
export type TlsWish =
  | { readonly kind: 'off' }
  | { readonly kind: 'auto' }
  | { readonly kind: 'files'; readonly certPath: string; readonly keyPath: string };

/** `auto`, `off`, or the paths of a certificate and its key with a comma between them. */
export function parseTls(word: string): TlsWish {
  if (word === 'off' || word === 'auto') return { kind: word };
  const [certPath, keyPath, ...more] = word.split(',');
  if (!certPath || !keyPath || more.length > 0)
    throw new InvalidArgumentError(`"${word}" is neither "auto" nor "off" nor of the form CERT,KEY (two PEM files).`);
  return { kind: 'files', certPath, keyPath };
}

/** A host name of at most 200 characters, so that there is room for the sandbox's part, in lower case. */
export function parseDomain(word: string): string {
  const domain = word.toLowerCase().replace(/\.$/, '');
  const label = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
  if (domain.length > 200 || !new RegExp(`^${label}(?:\\.${label})*$`).test(domain) || /(?:^|\.)[0-9]+$/.test(domain))
    throw new InvalidArgumentError(`"${word}" is no domain. Give a host name without scheme, port and path.`);
  return domain;
}
